"""ExportedDetector: an exported file as a model like any other."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from focus_detr.errors import FocusDetrError
from focus_detr.structures.auto_budget import AutoBudget, BudgetLike
from focus_detr.structures.budget import AUTO, Budget
from focus_detr.structures.pixel_masks import HEAD
from focus_detr.zoo.resolve import EXPORTED_SUFFIXES

if TYPE_CHECKING:
    import torch

    from focus_detr.export.metadata import Metadata
    from focus_detr.images.preprocessing import ArrayProcessor


class Session(Protocol):
    """A file in its runtime."""

    metadata: Metadata

    def run(self, pixel_values: np.ndarray, counts: np.ndarray | None = None) -> list[np.ndarray]:
        """pixel_values (B,3,H,W) float32 -> logits (B,Q,k), pred_boxes (B,Q,4) boxes_cxcywh, and what else
        ``metadata.outputs`` names.

        Args:
            counts: (layers,) int64, tokens that each encoder layer works on, of files that take budgets.
        """
        ...


class ExportedDetector:
    """A model read from a file that `export` wrote.

    Attributes:
        config: what the file says about itself; fields named as in a model's configuration.
        processor: the image processor that goes with it.
    """

    takes_arrays = True
    """Of numpy, as well as tensors."""

    def __init__(self, session: Session, path: Path | None = None, device: str = "cpu") -> None:
        self.session, self._path, self._device = session, path, device
        self.config = session.metadata
        self.processor: ArrayProcessor = self.config.processor()
        self._budget: Budget | None = None

    def __reduce__(self) -> Any:
        # No runtime's session travels to another process; its file is read there again.
        if self._path is None:
            return super().__reduce__()
        return load_exported, (self._path.resolve(), self._device), {"_budget": self._budget}

    @property
    def takes_budget(self) -> bool:
        """Whether the file was written with its budget as an input."""
        return self.config.budgets is not None

    @property
    def usual_budget(self) -> float:
        """The budget that it works at when none is said, or was trained for."""
        assert self.config.budgets is not None
        return self.config.budgets.usual if self._budget is None else self._budget.share

    @property
    def few_budgets(self) -> bool:
        """Whether each further budget costs time to make ready, so that a stream does better with few."""
        return bool(getattr(self.session, "fixed", False))

    def accept_budget(self, budget: BudgetLike) -> Budget | None:
        """A call's budget; None stays None.

        Raises:
            FocusDetrError: it is no budget, or the file has its own fixed.
        """
        if budget is None:
            return None
        if not self.takes_budget:
            said = getattr(budget, "share", budget)
            raise FocusDetrError(
                f"budget={said}: this model works on what it was made for; export it anew with --budget any, "
                "or use the model itself"
            )
        if budget == AUTO or isinstance(budget, AutoBudget):
            raise FocusDetrError(
                f"budget={AUTO!r}: a graph cannot choose by the picture; give a number, or use the model "
                "itself"
            )
        return Budget.of(budget)

    def set_budget(self, budget: BudgetLike) -> None:
        """The budget of calls that say none; None is what the file was written with."""
        self._budget = self.accept_budget(budget)

    def fingerprint(self) -> str:
        """What decides how long it computes: the file."""
        digest = hashlib.sha256(self.config.to_json().encode())
        if self._path is not None:
            for file in (self._path, self._path.with_suffix(".bin")):
                digest.update(file.read_bytes() if file.is_file() else b"")
        return digest.hexdigest()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes it knows, by label."""
        return self.config.class_names

    def infer(
        self, pixel_values: Any, pixel_mask: Any = None, *, budget: BudgetLike = None
    ) -> tuple[Any, ...]:
        """Detect in images (B,3,H,W), the padding of pixel_mask (B,H,W) cut off; arrays, or else tensors.

        Images of one size go through the graph together, so an answer does not depend on the batch. Returns
        logits (B,Q,k), the lowest float where an image has fewer queries, and pred_boxes (B,Q,4) of the same
        kind; of a file with masks, also the dict of what they are computed from (see `PixelMasks`).

        Args:
            budget: mean share of tokens that an encoder layer works on, of files that take one.

        Raises:
            FocusDetrError: an image of a size that the graph does not take, or a budget where it has its own.
        """
        if isinstance(pixel_values, np.ndarray):
            return self._infer(pixel_values, pixel_mask, budget)
        import torch

        from focus_detr.models.inputs import check_images, check_sizes

        check_images(pixel_values, pixel_mask)
        if pixel_mask is not None:
            pixel_mask = pixel_mask.cpu().numpy()
            check_sizes(*zip(*_sizes(pixel_mask), strict=True))
        images = pixel_values.detach().to("cpu", torch.float32).numpy()
        logits, boxes, *masks = self._infer(images, pixel_mask, budget)
        said = [{name: torch.from_numpy(value) for name, value in each.items()} for each in masks]
        return torch.from_numpy(logits), torch.from_numpy(boxes), *said

    def _infer(
        self, images: np.ndarray, pixel_mask: np.ndarray | None, budget: BudgetLike
    ) -> tuple[Any, ...]:
        accepted = self.accept_budget(budget) or self._budget
        height, width = images.shape[2:]
        sizes = [(height, width)] * len(images)
        if pixel_mask is not None:
            sizes = _sizes(pixel_mask)
        answers: dict[int, tuple[np.ndarray, ...]] = {}
        for size in dict.fromkeys(sizes):
            members = [index for index, each in enumerate(sizes) if each == size]
            parts = self._run(images[members, :, : size[0], : size[1]], accepted)
            answers.update(zip(members, zip(*parts, strict=True), strict=True))
        logits, boxes, *masks = zip(*(answers[index] for index in range(len(images))), strict=True)
        lowest = float(np.finfo(np.float32).min)
        predictions = _stack(logits, lowest), _stack(boxes)
        if not masks:
            return predictions
        kernels, pixels = masks
        on_map = np.array([each.shape[1:] for each in pixels])
        said = {"kernels": _stack(kernels), "pixels": _stack(pixels), "sizes": on_map}
        return *predictions, {f"{HEAD}_{name}": value for name, value in said.items()}

    def _run(self, images: np.ndarray, budget: Budget | None) -> list[np.ndarray]:
        """Images (B,3,H,W) of one size, in batches that the graph takes."""
        height, width = images.shape[2:]
        self._check_size(height, width)
        budgets = self.config.budgets
        # Of a file without budgets it is not said.
        counts = () if budgets is None else (budgets.counts(budget, height, width),)
        batch = self.config.batch_size or len(images)
        parts = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            missing = batch - len(part)
            filled = np.concatenate([part, np.repeat(part[-1:], missing, 0)]) if missing else part
            parts.append(
                [answer[: len(part)] for answer in self.session.run(np.ascontiguousarray(filled), *counts)]
            )
        return [np.concatenate(each) for each in zip(*parts, strict=True)]

    def _check_size(self, height: int, width: int) -> None:
        from focus_detr.export.metadata import LARGEST_SIDE, smallest_side, stepped

        fixed, step = self.config.image_size, self.config.size_step
        if fixed is not None and (height, width) != fixed:
            raise FocusDetrError(
                f"image of {height}x{width} pixels: the exported model takes {fixed[0]}x{fixed[1]}; "
                "resize it by the exported model's own image processor"
            )
        if fixed is None and (height, width) != (stepped(height, step), stepped(width, step)):
            sides = f"multiples of {step}" if step > 1 else "sides"
            raise FocusDetrError(
                f"image of {height}x{width} pixels: the exported model takes {sides} from "
                f"{smallest_side(step)} to {LARGEST_SIDE}; resize it by the exported model's own image "
                "processor"
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


def _sizes(pixel_mask: np.ndarray) -> list[tuple[int, int]]:
    """Height and width of the image in each of (B,H,W)."""
    return [(int(mask[:, 0].sum()), int(mask[0].sum())) for mask in pixel_mask]


def _stack(arrays: Sequence[np.ndarray], fill: float = 0.0) -> np.ndarray:
    """One array of all, filled up at their ends."""
    most = np.max([array.shape for array in arrays], axis=0)
    padded = [
        np.pad(array, [(0, side) for side in most - array.shape], constant_values=fill) for array in arrays
    ]
    return np.stack(padded)
