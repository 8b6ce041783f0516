"""The image processor's arithmetic, in numpy and Pillow alone: what exported models need, too."""

# Shapes: B images, H W height and width, Q queries, k classes, T objects.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np
from PIL import Image

from focus_detr.errors import FocusDetrError
from focus_detr.images.postprocessing import SCORINGS, found_objects
from focus_detr.images.reading import check_size, eight_bits, target_size, to_rgb
from focus_detr.structures.of_torch import is_tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

WRITTEN_BY_TRANSFORMERS = {"image_processor_type", "processor_class", "feature_extractor_type", "auto_map"}
"""What `preprocessor_config.json` holds beside settings."""


class ArrayProcessor:
    """Resizes, normalises and pads images, and makes boxes of a model's answers.

    `FocusDetrImageProcessor` is this one as transformers knows image processors.

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
    ) -> None:
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
        if scoring not in SCORINGS:
            raise FocusDetrError(f"scoring={scoring!r}: must be one of {', '.join(SCORINGS)}.")

    def settings(self) -> dict[str, Any]:
        """What makes one like it."""
        return {name: getattr(self, name) for name in _SETTINGS}

    @classmethod
    def from_saved(cls, values: Mapping[str, Any]) -> ArrayProcessor:
        """From what `preprocessor_config.json` holds; TypeError for settings that are none."""
        return cls(**{name: value for name, value in values.items() if name not in WRITTEN_BY_TRANSFORMERS})

    def __call__(self, images: Any, return_tensors: str = "np") -> dict[str, Any]:
        """See `preprocess`."""
        return self.preprocess(images, return_tensors)

    def preprocess(self, images: Any, return_tensors: str = "np") -> dict[str, Any]:
        """What `arrays` gives, by name: "np", as arrays; "pt", as tensors."""
        values, mask = self.arrays(images)
        if return_tensors == "np":
            return {"pixel_values": values, "pixel_mask": mask}
        import torch

        return {"pixel_values": torch.from_numpy(values), "pixel_mask": torch.from_numpy(mask)}

    def arrays(self, images: Any) -> tuple[np.ndarray, np.ndarray]:
        """Images -> pixel_values (B,3,H,W) float32 and pixel_mask (B,H,W) uint8, 1 where there is image.

        `images`: one or a list of PIL images, numpy arrays or torch tensors, (H,W), (H,W,c) or (c,H,W), c
        one of 1, 3, 4; 0..255, or floating point (see `float_range`). A 4-dimensional array is a list.
        """
        resized = [self.resized(_as_rgb(image, self.float_range)) for image in _as_list(images)]
        divisor = self.pad_divisor
        height = -(-max(image.height for image in resized) // divisor) * divisor
        width = -(-max(image.width for image in resized) // divisor) * divisor
        values = np.zeros((len(resized), 3, height, width), dtype=np.float32)
        mask = np.zeros((len(resized), height, width), dtype=np.uint8)
        scale, offset = self.scale_and_offset()
        for image, place, covered in zip(resized, values, mask, strict=True):
            window = place[:, : image.height, : image.width]
            np.multiply(np.asarray(image).transpose(2, 0, 1), scale, out=window)
            window += offset
            covered[: image.height, : image.width] = 1
        return values, mask

    def post_process_object_detection(
        self,
        outputs: Any,
        threshold: float = 0.5,
        target_sizes: Any = None,
        top_k: int = 300,
    ) -> list[dict[str, Any]]:
        """Outputs with `logits` (B,Q,k) and `pred_boxes` (B,Q,4) cxcywh -> one dict an image of `scores`
        (T,), `labels` (T,), `boxes` (T,4) xyxy, best first, and the `queries` (T,) that gave them.

        The `top_k` best of all Q x k pairs of query and class are taken (so a query may give several
        objects; with softmax scoring, one at most), then those that reach `threshold`, without duplicates if
        `nms_threshold` is set. Boxes are pixels of `target_sizes` (B,2) height and width, clipped to it, or
        fractions of the image without it; empty ones are dropped. Of arrays come arrays, of tensors tensors,
        on their device.
        """
        logits, boxes = outputs["logits"], outputs["pred_boxes"]
        found = found_objects(
            _as_array(logits),
            _as_array(boxes),
            None if target_sizes is None else np.asarray(_as_array(target_sizes), dtype=np.float64),
            threshold=threshold,
            top_k=top_k,
            scoring=self.scoring,
            nms_threshold=self.nms_threshold,
        )
        if isinstance(logits, np.ndarray):
            return found
        import torch

        device = logits.device
        return [{name: torch.from_numpy(value).to(device) for name, value in each.items()} for each in found]

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that an image of this size is resized to."""
        return target_size(height, width, self.size) if self.do_resize else (height, width)

    def resized(self, image: Image.Image) -> Image.Image:
        """An RGB image as the model sees it, before its pixels become numbers; of such a one, itself."""
        height, width = self.size_of(image.height, image.width)
        if (width, height) == image.size:
            return image
        return image.resize((width, height), Image.Resampling.BILINEAR)

    def scale_and_offset(self) -> tuple[np.ndarray, np.ndarray]:
        """The rescaling and normalising of a pixel as one multiplication and one addition, each (3,1,1)."""
        scale = np.full(3, self.rescale_factor if self.do_rescale else 1.0)
        offset = np.zeros(3)
        if self.do_normalize:
            offset = -np.array(self.image_mean) / self.image_std
            scale = scale / self.image_std
        return scale.astype(np.float32)[:, None, None], offset.astype(np.float32)[:, None, None]


_SETTINGS = tuple(name for name in signature(ArrayProcessor).parameters)


def _three(name: str, values: Any) -> list[float]:
    numbers = [float(value) for value in values] if isinstance(values, Sequence | np.ndarray) else []
    if len(numbers) != 3:
        raise FocusDetrError(f"{name}={values!r}: must be three numbers, for red, green and blue.")
    return numbers


def _as_list(images: Any) -> list[Any]:
    if isinstance(images, list | tuple):
        listed = list(images)
    elif (isinstance(images, np.ndarray) or is_tensor(images)) and images.ndim == 4:
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
    channels_first = is_tensor(image)
    if channels_first:
        image = image.detach().cpu()
        image = (image.float() if str(image.dtype) == "torch.bfloat16" else image).numpy()  # numpy has none
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


def _as_array(value: Any) -> np.ndarray:
    """An array, or a tensor as one: half precision, too coarse for ranks and pixels, is widened."""
    if is_tensor(value):
        value = value.detach()
        value = (value.float() if value.dtype.itemsize < 4 else value).cpu().numpy()
    return value
