"""FocusDetrImageProcessor: images -> what a model takes, and what it gives -> boxes in pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from PIL import Image
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature

from focus_detr.errors import FocusDetrError
from focus_detr.images.reading import check_size, eight_bits, target_size, to_rgb
from focus_detr.images.suppression import without_duplicates
from focus_detr.structures.pixel_masks import PixelMasks

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
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
_SCORINGS = ("sigmoid", "softmax")
_WRITTEN_BY_TRANSFORMERS = {"image_processor_type", "processor_class", "feature_extractor_type", "auto_map"}


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


class FocusDetrImageProcessor(BaseImageProcessor):
    """Resizes, normalises and pads images for Focus-DETR.

    Args:
        size: in pixels; {"shortest_edge", "longest_edge"} keeps the shape, {"height", "width"} stretches.
            With "multiple" beside the former, edges are rounded to multiples of it: cells of a model's
            coarsest stride then fit the image.
        rescale_factor, image_mean, image_std: a pixel 0..255 becomes (pixel * rescale_factor - mean) / std.
        pad_divisor: a batch is padded (zeros, right and below) to multiples of it.
        do_resize, do_rescale, do_normalize: False skips that step.
        nms_threshold: of boxes of one class whose intersection over union exceeds it, only the best is given;
            None gives all, as DETRs do.
        scoring: "sigmoid" scores every class of a query by itself; with "softmax" the last of k logits means
            no object, and each query gives its best other class, as in the first DETR.
        float_range: what white is in floating-point arrays and tensors, 1 or 255; None tells by the values of
            each (see `focus_detr.images.reading.eight_bits`).
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
        _refuse_unknown(set(kwargs) - _WRITTEN_BY_TRANSFORMERS)
        super().__init__(**{key: value for key, value in kwargs.items() if key == "auto_map"})
        self.do_resize = do_resize
        self.size = check_size({"shortest_edge": 800, "longest_edge": 1333} if size is None else size)
        self.do_rescale = do_rescale
        self.rescale_factor = rescale_factor
        self.do_normalize = do_normalize
        self.image_mean = _three("image_mean", image_mean)
        self.image_std = _three("image_std", image_std)
        self.pad_divisor = pad_divisor
        self.nms_threshold = nms_threshold
        self.scoring = scoring
        self.float_range = float_range
        if float_range not in (None, 1, 255):
            raise FocusDetrError(
                f"float_range={float_range!r}: must be 1 or 255, or null to tell by the values."
            )
        if min(self.image_std) <= 0:
            raise FocusDetrError(f"image_std={self.image_std}: every value must be above 0.")
        if type(pad_divisor) is not int or pad_divisor < 1:
            raise FocusDetrError(f"pad_divisor={pad_divisor!r}: must be a whole number, 1 or more.")
        if nms_threshold is not None and not 0 < nms_threshold <= 1:
            raise FocusDetrError(f"nms_threshold={nms_threshold!r}: must lie in (0, 1], or be null for none.")
        if scoring not in _SCORINGS:
            raise FocusDetrError(f"scoring={scoring!r}: must be one of {', '.join(_SCORINGS)}.")

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

    def preprocess(self, images: Any, return_tensors: str | None = "pt", **overrides: Any) -> BatchFeature:
        """Images -> `pixel_values` (B,3,H,W) float32 and `pixel_mask` (B,H,W) uint8, 1 where there is image.

        `images`: one or a list of PIL images, numpy arrays or torch tensors, (H,W), (H,W,c) or (c,H,W), c
        one of 1, 3, 4; 0..255, or floating point (see `float_range`). A 4-dimensional array is a list.
        `overrides` replace the processor's own settings for this call.
        """
        settings = self._with(overrides)
        resized = [settings._resized(_as_rgb(image, settings.float_range)) for image in _as_list(images)]
        divisor = settings.pad_divisor
        height = -(-max(image.height for image in resized) // divisor) * divisor
        width = -(-max(image.width for image in resized) // divisor) * divisor
        values = np.zeros((len(resized), 3, height, width), dtype=np.float32)
        mask = np.zeros((len(resized), height, width), dtype=np.uint8)
        scale, offset = settings._scale_and_offset()
        for image, place, covered in zip(resized, values, mask, strict=True):
            window = place[:, : image.height, : image.width]
            np.multiply(np.asarray(image).transpose(2, 0, 1), scale, out=window)
            window += offset
            covered[: image.height, : image.width] = 1
        return BatchFeature({"pixel_values": values, "pixel_mask": mask}, tensor_type=return_tensors)

    def post_process_object_detection(
        self,
        outputs: Any,
        threshold: float = 0.5,
        target_sizes: torch.Tensor | Sequence[tuple[int, int]] | None = None,
        top_k: int = 300,
    ) -> list[dict[str, torch.Tensor]]:
        """Outputs with `logits` (B,Q,k) and `pred_boxes` (B,Q,4) cxcywh -> one dict an image of `scores`
        (T,), `labels` (T,), `boxes` (T,4) xyxy, best first, and the `queries` (T,) that gave them.

        The `top_k` best of all Q x k pairs of query and class are taken (so a query may give several
        objects; with softmax scoring, one at most), then those that reach `threshold`, without duplicates if
        `nms_threshold` is set. Boxes are pixels of `target_sizes` (B,2) height and width, clipped to it, or
        fractions of the image without it; empty ones are dropped.
        """
        logits, boxes = (
            # Half precision has too few digits for ranks and pixels; double keeps its own.
            value if value.dtype == torch.float64 else value.float()
            for value in (outputs["logits"], outputs["pred_boxes"])
        )
        batch = len(logits)
        if target_sizes is None:
            target_sizes = torch.ones(batch, 2)
        sizes = torch.as_tensor(target_sizes, dtype=boxes.dtype, device=boxes.device)
        if sizes.shape != (batch, 2):
            raise FocusDetrError(
                f"target_sizes: one (height, width) for each of {batch} images, not {tuple(sizes.shape)}."
            )
        scores, labels, query = _best(logits, top_k, self.scoring)
        centre, extent = boxes.gather(1, query[..., None].expand(-1, -1, 4)).split(2, dim=-1)
        corners = torch.cat([centre - extent / 2, centre + extent / 2], dim=-1).clamp(0, 1)
        pixels = corners * sizes.flip(1).repeat(1, 2)[:, None]
        # A score of zero is no detection at any threshold: queries that fill up an image's set have it.
        kept = (scores >= threshold) & (scores > 0) & (pixels[..., 2:] > pixels[..., :2]).all(dim=-1)
        results = [
            {
                "scores": scores[i, keep],
                "labels": labels[i, keep],
                "boxes": pixels[i, keep],
                "queries": query[i, keep],
            }
            for i, keep in enumerate(kept)
        ]
        if self.nms_threshold is None:
            return results
        return [
            {name: value[best] for name, value in found.items()}
            for found in results
            for best in [without_duplicates(found["boxes"], found["labels"], self.nms_threshold)]
        ]

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
        current = {name: getattr(self, name) for name in FocusDetrImageProcessorKwargs.__annotations__}
        return type(self)(**{**current, **overrides})

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that an image of this size is resized to."""
        return target_size(height, width, self.size) if self.do_resize else (height, width)

    def _resized(self, image: Image.Image) -> Image.Image:
        height, width = self.size_of(image.height, image.width)
        if (width, height) == image.size:
            return image
        return image.resize((width, height), Image.Resampling.BILINEAR)

    def _scale_and_offset(self) -> tuple[np.ndarray, np.ndarray]:
        """The rescaling and normalising of a pixel as one multiplication and one addition, each (3,1,1)."""
        scale = np.full(3, self.rescale_factor if self.do_rescale else 1.0)
        offset = np.zeros(3)
        if self.do_normalize:
            offset = -np.array(self.image_mean) / self.image_std
            scale = scale / self.image_std
        return scale.astype(np.float32)[:, None, None], offset.astype(np.float32)[:, None, None]


def _best(logits: torch.Tensor, top_k: int, scoring: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores, labels and queries (B,T) of the ``top_k`` best answers of logits (B,Q,k), best first."""
    if scoring == "softmax":
        scores, labels = logits.softmax(-1)[..., :-1].max(-1)
        scores, query = scores.topk(min(top_k, scores.shape[1]), dim=1)
        return scores, labels.gather(1, query), query
    classes = logits.shape[2]
    scores, flat = logits.flatten(1).sigmoid().topk(min(top_k, logits[0].numel()), dim=1)
    return scores, flat % classes, flat // classes


def _refuse_unknown(options: set[str]) -> None:
    if options:
        known = ", ".join(FocusDetrImageProcessorKwargs.__annotations__)
        raise FocusDetrError(
            f"image processor: unknown option {', '.join(sorted(options))}. Options: {known}."
        )


def _three(name: str, values: Any) -> list[float]:
    numbers = [float(value) for value in values] if isinstance(values, Sequence | np.ndarray) else []
    if len(numbers) != 3:
        raise FocusDetrError(f"{name}={values!r}: must be three numbers, for red, green and blue.")
    return numbers


def _as_list(images: Any) -> list[Any]:
    if isinstance(images, list | tuple):
        listed = list(images)
    elif isinstance(images, np.ndarray | torch.Tensor) and images.ndim == 4:
        listed = list(images)
    else:
        listed = [images]
    if not listed:
        raise FocusDetrError("images: an empty list; give one image at least.")
    return listed


def _as_rgb(image: Any, float_range: float | None) -> Image.Image:
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise FocusDetrError(f"images: an image of {image.width}x{image.height} has no pixels.")
        return to_rgb(image)
    channels_first = isinstance(image, torch.Tensor)
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        image = (image.float() if image.dtype == torch.bfloat16 else image).numpy()  # numpy has no bfloat16
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3) or 0 in image.shape:
        shape = (
            f"an array of shape {image.shape}"
            if isinstance(image, np.ndarray)
            else f"a {type(image).__name__}"
        )
        raise FocusDetrError(
            f"images: cannot use {shape}; give PIL images, or arrays (H,W), (H,W,c) or (c,H,W)."
        )
    if image.ndim == 3:
        first, last = image.shape[0] in (1, 3, 4), image.shape[2] in (1, 3, 4)
        if not first and not last:
            raise FocusDetrError(f"images: no dimension of shape {image.shape} is 1, 3 or 4 channels.")
        if first and (channels_first or not last):
            image = image.transpose(1, 2, 0)
        image = image[:, :, 0] if image.shape[2] == 1 else image
    return to_rgb(Image.fromarray(np.ascontiguousarray(eight_bits(image, float_range))))
