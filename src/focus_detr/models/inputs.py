"""What a model is given, looked at before a convolution complains of it in its own words."""

# Shapes: B images, H W height and width of the canvas.

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from focus_detr.errors import FocusDetrError


def check_images(pixel_values: Tensor, pixel_mask: Tensor | None) -> None:
    """Raise `FocusDetrError` unless these are images (B,3,H,W) of floating point and a mask (B,H,W) or none.

    Shapes alone are looked at: values are on the device, and looking would wait for it.
    """
    if torch.compiler.is_compiling():
        return
    shape = tuple(pixel_values.shape)
    if len(shape) != 4 or shape[1] != 3 or not pixel_values.is_floating_point():
        kind = str(pixel_values.dtype).removeprefix("torch.")
        raise FocusDetrError(
            f"pixel_values of shape {shape} and type {kind}: must be normalised images (B,3,H,W) of floating "
            "point, as the image processor makes them"
        )
    if 0 in shape:
        raise FocusDetrError(f"pixel_values of shape {shape}: holds no image, or images without pixels")
    if pixel_mask is not None and tuple(pixel_mask.shape) != (shape[0], *shape[2:]):
        raise FocusDetrError(
            f"pixel_mask of shape {tuple(pixel_mask.shape)}: must be {(shape[0], *shape[2:])}, one value for "
            "each pixel of pixel_values"
        )


def check_sizes(heights: Sequence[int], widths: Sequence[int]) -> None:
    """Raise `FocusDetrError` for an image of which the mask leaves no row or no column."""
    for index, (height, width) in enumerate(zip(heights, widths, strict=True)):
        if height < 1 or width < 1:
            raise FocusDetrError(
                f"pixel_mask: image {index} of the batch has no pixels; 1 marks where image is, from the top "
                "left, and 0 the padding"
            )
