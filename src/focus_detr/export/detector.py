"""ExportedDetector: an exported file as a model like any other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from focus_detr.errors import FocusDetrError
from focus_detr.zoo.resolve import EXPORTED_SUFFIXES

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from focus_detr.export.metadata import Metadata
    from focus_detr.images.processor import FocusDetrImageProcessor


class Session(Protocol):
    """A file in its runtime."""

    metadata: Metadata

    def run(self, pixel_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """pixel_values (B,3,H,W) float32 -> logits (B,Q,k), pred_boxes (B,Q,4) boxes_cxcywh."""
        ...


class ExportedDetector:
    """A model read from a file that `export` wrote.

    Attributes:
        config: what the file says about itself; fields named as in a model's configuration.
        processor: the image processor that goes with it.
    """

    def __init__(self, session: Session, path: Path | None = None, device: str = "cpu") -> None:
        self.session, self._path, self._device = session, path, device
        self.config = session.metadata
        self.processor: FocusDetrImageProcessor = self.config.processor()

    def __reduce__(self) -> Any:
        # No runtime's session travels to another process; its file is read there again.
        if self._path is None:
            return super().__reduce__()
        return load_exported, (self._path.resolve(), self._device)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes it knows, by label."""
        return self.config.class_names

    def infer(self, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Detect in images (B,3,H,W), the padding of pixel_mask (B,H,W) cut off.

        Images of one size go through the graph together, so an answer does not depend on the batch. Returns
        logits (B,Q,k), the lowest float where an image has fewer queries, and pred_boxes (B,Q,4).

        Raises:
            FocusDetrError: an image of a size that the graph does not take.
        """
        import torch

        from focus_detr.models.inputs import check_images, check_sizes

        check_images(pixel_values, pixel_mask)
        images = pixel_values.detach().to("cpu", torch.float32).numpy()
        height, width = images.shape[2:]
        sizes = [(height, width)] * len(images)
        if pixel_mask is not None:
            sizes = [(int(mask[:, 0].sum()), int(mask[0].sum())) for mask in pixel_mask]
            check_sizes(*zip(*sizes, strict=True))
        answers: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for size in dict.fromkeys(sizes):
            members = [index for index, each in enumerate(sizes) if each == size]
            logits, boxes = self._run(images[members, :, : size[0], : size[1]])
            answers.update(zip(members, zip(logits, boxes, strict=True), strict=True))
        most = max(len(logits) for logits, _ in answers.values())
        ordered = [answers[index] for index in range(len(images))]
        lowest = float(np.finfo(np.float32).min)
        return _stack([a for a, _ in ordered], most, lowest), _stack([b for _, b in ordered], most, 0.0)

    def _run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images (B,3,H,W) of one size, in batches that the graph takes."""
        self._check_size(images.shape[2], images.shape[3])
        batch = self.config.batch_size or len(images)
        parts = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            missing = batch - len(part)
            filled = np.concatenate([part, np.repeat(part[-1:], missing, 0)]) if missing else part
            parts.append([answer[: len(part)] for answer in self.session.run(np.ascontiguousarray(filled))])
        logits, boxes = zip(*parts, strict=True)
        return np.concatenate(logits), np.concatenate(boxes)

    def _check_size(self, height: int, width: int) -> None:
        from focus_detr.export.metadata import SIZE_STEP, SMALLEST_SIDE

        fixed = self.config.image_size
        if fixed is not None and (height, width) != fixed:
            raise FocusDetrError(
                f"image of {height}x{width} pixels: the exported model takes {fixed[0]}x{fixed[1]}; "
                "resize it by the exported model's own image processor"
            )
        if fixed is None and (height % SIZE_STEP or width % SIZE_STEP or min(height, width) < SMALLEST_SIDE):
            raise FocusDetrError(
                f"image of {height}x{width} pixels: the exported model takes multiples of {SIZE_STEP}, "
                f"{SMALLEST_SIDE} or more; resize it by the exported model's own image processor"
            )


def load_exported(path: str | os.PathLike[str], device: str | torch.device | None = None) -> ExportedDetector:
    """Read a file that `export` wrote: .onnx, .xml (OpenVINO) or .pt2 (torch.export).

    Args:
        device: by default the CPU; otherwise as the runtime names it, as in "cuda" for ONNX Runtime.

    Raises:
        FocusDetrError: no such file, not one of ours, or its runtime is not installed.
    """
    path = Path(path)
    if path.suffix not in EXPORTED_SUFFIXES:
        raise FocusDetrError(f"{path}: an exported model ends in {', '.join(EXPORTED_SUFFIXES)}")
    if not path.is_file():
        raise FocusDetrError(f"{path}: no such file")
    target = "cpu" if device is None else str(device)
    if path.suffix == ".onnx":
        from focus_detr.export import onnx

        return ExportedDetector(onnx.Session(path, target), path, target)
    if path.suffix == ".xml":
        from focus_detr.export import openvino

        return ExportedDetector(openvino.Session(path, target), path, target)
    from focus_detr.export import torch_export

    return ExportedDetector(torch_export.Session(path, target), path, target)


def _stack(arrays: list[np.ndarray], rows: int, fill: float) -> Tensor:
    import torch

    padded = [np.pad(array, ((0, rows - len(array)), (0, 0)), constant_values=fill) for array in arrays]
    return torch.from_numpy(np.stack(padded))
