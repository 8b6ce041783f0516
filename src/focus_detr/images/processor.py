"""FocusDetrImageProcessor: images -> what a model takes, and what it gives -> boxes in pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature

from focus_detr.errors import FocusDetrError
from focus_detr.images.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    WRITTEN_BY_TRANSFORMERS,
    ArrayProcessor,
)
from focus_detr.structures.pixel_masks import PixelMasks

_HUB_OPTIONS = {
    "cache_dir",
    "force_download",
    "local_files_only",
    "proxies",
    "token",
    "revision",
    "subfolder",
}
_HUB_OPTIONS |= {"return_unused_kwargs", "image_processor_filename", "code_revision", "trust_remote_code"}


class FocusDetrImageProcessorKwargs(TypedDict, total=False):
    do_resize: bool
    size: int | dict[str, int]
    do_rescale: bool
    rescale_factor: float
    do_normalize: bool
    image_mean: Sequence[float]
    image_std: Sequence[float]
    pad_divisor: int
    nms_threshold: float | None
    scoring: str
    float_range: float | None


class FocusDetrImageProcessor(ArrayProcessor, BaseImageProcessor):
    """Resizes, normalises and pads images for Focus-DETR.

    The settings are those of `ArrayProcessor`.
    """

    model_input_names = ["pixel_values", "pixel_mask"]
    # transformers declares the one class, and its own processors assign a subclass as here.
    valid_kwargs = FocusDetrImageProcessorKwargs  # type: ignore[assignment]

    def __init__(
        self,
        do_resize: bool = True,
        size: int | dict[str, int] | None = None,
        do_rescale: bool = True,
        rescale_factor: float = 1 / 255,
        do_normalize: bool = True,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
        pad_divisor: int = 1,
        nms_threshold: float | None = None,
        scoring: str = "sigmoid",
        float_range: float | None = None,
        **kwargs: Any,
    ) -> None:
        _refuse_unknown(set(kwargs) - WRITTEN_BY_TRANSFORMERS)
        BaseImageProcessor.__init__(
            self, **{key: value for key, value in kwargs.items() if key == "auto_map"}
        )
        ArrayProcessor.__init__(
            self, do_resize, size, do_rescale, rescale_factor, do_normalize, image_mean, image_std,
            pad_divisor, nms_threshold, scoring, float_range,
        )  # fmt: skip

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any
    ) -> FocusDetrImageProcessor:
        """A saved processor. `kwargs` are transformers' own, or settings that replace the saved ones."""
        # A pipeline hands every part what is meant for the model: dtype, device_map and so on.
        if "_from_pipeline" not in kwargs:
            settings = {key for key in kwargs if not key.startswith("_")}
            _refuse_unknown(settings - _HUB_OPTIONS - set(FocusDetrImageProcessorKwargs.__annotations__))
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    __call__ = BaseImageProcessor.__call__  # type: ignore[assignment]

    def preprocess(  # type: ignore[override]
        self, images: Any, return_tensors: str | None = "pt", **overrides: Any
    ) -> BatchFeature:
        """Images -> `pixel_values` (B,3,H,W) float32 and `pixel_mask` (B,H,W) uint8, 1 where there is image.

        `images`: one or a list of PIL images, numpy arrays or torch tensors, (H,W), (H,W,c) or (c,H,W), c
        one of 1, 3, 4; 0..255, or floating point (see `float_range`). A 4-dimensional array is a list.
        `overrides` replace the processor's own settings for this call.
        """
        values, mask = self._with(overrides).arrays(images)
        return BatchFeature({"pixel_values": values, "pixel_mask": mask}, tensor_type=return_tensors)

    def post_process_instance_segmentation(
        self,
        outputs: Any,
        threshold: float = 0.5,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.8,
        target_sizes: torch.Tensor | Sequence[tuple[int, int]] | None = None,
        top_k: int = 300,
    ) -> list[dict[str, Any]]:
        """Outputs of a model with masks -> one dict an image, as transformers' pipelines have it:
        `segmentation` (H,W) int32, the number of the object that covers each pixel, -1 for none, and
        `segments_info`, for each object `id`, `label_id`, `score` and `was_fused`.

        Where objects overlap the better one is in front; one of whose mask less than the share
        `overlap_mask_area_threshold` is then seen is left out. Without `target_sizes` pixels are those of the
        model's map, a quarter of its image. All else is as in `post_process_object_detection`.

        Raises:
            FocusDetrError: the model gives no masks.
        """
        pixel_masks = PixelMasks.of(outputs)
        if pixel_masks is None:
            raise FocusDetrError(
                "post_process_instance_segmentation: the model gives no masks; use "
                "FocusDetrForInstanceSegmentation, or a model with the head 'masks'"
            )
        if not 0 < mask_threshold < 1:
            raise FocusDetrError(f"mask_threshold={mask_threshold!r}: must lie between 0 and 1.")
        if target_sizes is None:
            target_sizes = pixel_masks.sizes.tolist()
        found = self.post_process_object_detection(outputs, threshold, target_sizes, top_k)
        least = math.log(mask_threshold / (1 - mask_threshold))
        results: list[dict[str, Any]] = []
        for image, (objects, sides) in enumerate(zip(found, target_sizes, strict=True)):
            size = (int(sides[0]), int(sides[1]))
            boxes, queries = objects["boxes"].float().cpu().numpy(), objects["queries"].cpu().numpy()
            covering = np.full(size, -1, dtype=np.int32)
            info: list[dict[str, Any]] = []
            for row, mask in enumerate(pixel_masks.masks(image, queries, boxes, size, least)):
                bitmap = mask.decode(size)
                seen = bitmap & (covering < 0)
                if not seen.any() or seen.sum() < overlap_mask_area_threshold * bitmap.sum():
                    continue
                covering[seen] = len(info)
                label, score = int(objects["labels"][row]), float(objects["scores"][row])
                info.append({"id": len(info), "label_id": label, "score": score, "was_fused": False})
            results.append({"segmentation": torch.from_numpy(covering), "segments_info": info})
        return results

    def _with(self, overrides: Mapping[str, Any]) -> FocusDetrImageProcessor:
        if not overrides:
            return self
        return type(self)(**{**self.settings(), **overrides})


def _refuse_unknown(options: set[str]) -> None:
    if options:
        known = ", ".join(FocusDetrImageProcessorKwargs.__annotations__)
        raise FocusDetrError(
            f"image processor: unknown option {', '.join(sorted(options))}. Options: {known}."
        )
