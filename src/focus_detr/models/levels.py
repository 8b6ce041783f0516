"""Levels: a batch of images through backbone and neck, and where in the levels the images are."""

# Shapes: B images, C channels, H W height and width of the canvas, H_l W_l of a level's.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from focus_detr.models.inputs import check_sizes
from focus_detr.structures.geometry import Geometry

Extract = Callable[[Tensor], list[Tensor]]  # images (B,3,H,W) -> levels (B,C,H_l,W_l), fine to coarse


def on_canvas(pixel_values: Tensor, pixel_mask: Tensor | None, multiple: int) -> tuple[Tensor, Tensor | None]:
    """Images (B,3,H,W) and their mask (B,H,W) on a canvas with sides that ``multiple`` divides."""
    height, width = pixel_values.shape[2:]
    below, right = -height % multiple, -width % multiple
    if not below and not right:
        return pixel_values, pixel_mask
    if pixel_mask is None:
        pixel_mask = torch.ones_like(pixel_values[:, 0], dtype=torch.int64)
    return F.pad(pixel_values, (0, right, 0, below)), F.pad(pixel_mask, (0, right, 0, below))


def levels_of_canvas(
    extract: Extract, pixel_values: Tensor, pixel_mask: Tensor | None
) -> tuple[list[Tensor], Geometry]:
    """The whole canvas at once, as released: the padding of ``pixel_mask`` (B,H,W) passes for image."""
    levels = extract(pixel_values)
    shapes = [(level.shape[2], level.shape[3]) for level in levels]
    if pixel_mask is None:
        return levels, Geometry.unpadded(shapes, pixel_values.shape[0], pixel_values.device)
    mask = pixel_mask.to(pixel_values.dtype)[:, None]
    sizes = []
    for shape in shapes:
        small = F.interpolate(mask, size=shape)[:, 0].bool()  # nearest, as released
        sizes.append(torch.stack([small[:, :, 0].sum(1), small[:, 0].sum(1)], -1))
    return levels, Geometry.padded(shapes, torch.stack(sizes, 1), rounded=True)


def levels_of_each_size(
    extract: Extract, pixel_values: Tensor, pixel_mask: Tensor
) -> tuple[list[Tensor], Geometry]:
    """Images of one size together and without padding: an image's levels do not know how it was padded."""
    # The one thing that the host must be told by the device; the rest follows from it.
    heights, widths = torch.stack([pixel_mask[:, :, 0].sum(1), pixel_mask[:, 0].sum(1)]).tolist()
    check_sizes(heights, widths)
    # Images of sizes a b a go through the backbone as [0 2] and [1]; ``place`` 0 2 1 puts them back.
    members: dict[tuple[int, int], list[int]] = {}
    for i, (height, width) in enumerate(zip(heights, widths, strict=True)):
        members.setdefault((int(height), int(width)), []).append(i)
    by_size = [
        extract(torch.stack([pixel_values[i, :, :height, :width] for i in images]))
        for (height, width), images in members.items()
    ]
    order = [i for images in members.values() for i in images]
    place = _on_device([order.index(i) for i in range(len(order))], pixel_values.device)
    levels, shapes, sizes = [], [], []
    for parts in zip(*by_size, strict=True):  # a level: (images of one size, C, their H_l, their W_l) each
        shape = (max(part.shape[2] for part in parts), max(part.shape[3] for part in parts))
        padded = [F.pad(part, (0, shape[1] - part.shape[3], 0, shape[0] - part.shape[2])) for part in parts]
        # Zeros where a smaller image ends: geometry tells every later step to leave them alone.
        levels.append(torch.cat(padded)[place] if len(padded) > 1 else padded[0])
        shapes.append(shape)
        sizes.append([tuple(part.shape[2:4]) for part in parts for _ in range(len(part))])
    if len(by_size) == 1:
        return levels, Geometry.unpadded(shapes, pixel_values.shape[0], pixel_values.device)
    return levels, Geometry.padded(shapes, _on_device(sizes, pixel_values.device)[:, place].transpose(0, 1))


def _on_device(numbers: list[Any], device: torch.device) -> Tensor:
    # A copy from the host that nobody waits for.
    return torch.tensor(numbers).to(device, non_blocking=True)
