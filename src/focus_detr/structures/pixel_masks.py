"""Masks as products: what a query says times what a pixel says, computed where somebody asks.

A pixel of a map at stride 4 is E numbers. A query has as many, and six more: the coefficients of a quadratic
form in the place of the pixel in the query's box, by which a round thing is round before anything is learned,
and two alike that touch are two. Logits of all queries over all pixels are never made.
"""

# Shapes: B images, Q queries, T objects, E numbers of a pixel, H W of the map, P places, C channels;
# _l of a level.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from focus_detr.structures.masks import Mask, as_array
from focus_detr.structures.of_torch import is_tensor

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FORM = 6
"""Coefficients of 1, u, v, u^2, v^2, uv, where (u, v) runs from -0.5 to 0.5 across the box."""
_REACH = 1.0  # as far as (u, v) goes: pixels further off say nothing more by their place

HEAD = "masks"
"""Name of the head that makes them; its outputs are `masks_kernels`, `masks_pixels` and `masks_sizes`."""


def mask_logits(kernels: Tensor, boxes: Tensor, pixels: Tensor, places: Tensor) -> Tensor:
    """Logits (...,P), of kernels (...,E+6), boxes_cxcywh (...,4), pixels (...,P,E) at places (...,P,2).

    All but the last axes broadcast; places are x and y, as boxes are fractions of the image.
    """
    content, form = kernels[..., :-FORM], kernels[..., None, -FORM:]
    product = (pixels @ content[..., None])[..., 0]
    extent = boxes[..., None, 2:].clamp(min=1e-6)
    u, v = ((places - boxes[..., None, :2]) / extent).clamp(-_REACH, _REACH).unbind(-1)
    return product + quadratic(form.unbind(-1), u, v)


def quadratic(form: Sequence[Any], u: Any, v: Any) -> Any:
    """The form of `FORM` coefficients at (u, v); all broadcast."""
    one, by_u, by_v, by_uu, by_vv, by_uv = form
    return one + u * (by_u + by_uu * u + by_uv * v) + v * (by_v + by_vv * v)


@dataclass
class PixelMasks:
    """What the masks of a batch are computed from.

    Attributes:
        kernels: (B,Q,E+6); pixels: (B,E,H,W), the map.
        sizes: (B,2) height and width of the image's part of the map.
    """

    kernels: np.ndarray
    pixels: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, outputs: Any) -> PixelMasks | None:
        """From a model's outputs; None where it says none."""
        extra = getattr(outputs, "extra", None) or {}
        names = [f"{HEAD}_{name}" for name in ("kernels", "pixels", "sizes")]
        if any(name not in extra for name in names):
            return None
        values = [extra[name] for name in names]
        arrays = [value.detach().cpu().float().numpy() if is_tensor(value) else value for value in values]
        return cls(*arrays)

    def masks(
        self,
        image: int,
        queries: np.ndarray,
        boxes_xyxy: np.ndarray,
        size: tuple[int, int],
        least: float = 0.0,
    ) -> np.ndarray:
        """(T,) of `Mask`: what queries (T,) cover within their boxes (T,4), pixels of a picture of ``size``
        (height, width).

        Args:
            least: logit that covered pixels have more than.
        """
        return as_array(
            self._mask(image, int(query), box.astype(np.float64), size, least)
            for query, box in zip(queries, boxes_xyxy, strict=True)
        )

    def _mask(self, image: int, query: int, box: np.ndarray, size: tuple[int, int], least: float) -> Mask:
        limit = np.array([size[1], size[0]])
        low = np.floor(box[:2] + 0.5).clip(0, limit - 1).astype(int)  # pixels whose middle is in the box,
        high = np.maximum(np.ceil(box[2:] - 0.5).clip(0, limit).astype(int), low + 1)  # one at least
        kernel, cells = self.kernels[image, query], self.sizes[image]
        middles = [np.arange(low[axis], high[axis]) + 0.5 for axis in (0, 1)]
        across, columns = _between(middles[0] * (cells[1] / size[1]), int(cells[1]))
        down, rows = _between(middles[1] * (cells[0] / size[0]), int(cells[0]))
        window = self.pixels[image][:, rows, columns]
        product = np.tensordot(kernel[:-FORM], window, 1)  # of the cells around the box
        middle, extent = (box[:2] + box[2:]) / 2, np.maximum(box[2:] - box[:2], 1e-6)
        u, v = (
            ((middles[axis] - middle[axis]) / extent[axis]).clip(-_REACH, _REACH).astype(np.float32)
            for axis in (0, 1)
        )
        logits = down @ product @ across.T + quadratic(kernel[-FORM:], u[None], v[:, None])
        return Mask.of_bitmap(logits > least, size, (int(low[0]), int(low[1])))


def _between(places: np.ndarray, cells: int) -> tuple[np.ndarray, slice]:
    # Weights (P,window) of cells that places lie between, and which cells those are.
    places = (places - 0.5).clip(0, cells - 1)
    first, last = int(np.floor(places.min())), int(np.ceil(places.max()))
    distance = np.abs(places[:, None] - np.arange(first, last + 1))
    return (1 - distance).clip(0).astype(np.float32), slice(first, last + 1)


def resampled(maps: Tensor, sizes: Tensor, onto: tuple[int, int], image_sizes: Tensor) -> Tensor:
    """Maps (B,H_l,W_l,C) of images of ``sizes`` (B,2) on them, on another canvas ``onto`` (H, W), on which
    the images have ``image_sizes`` (B,2): (B,H,W,C), bilinear.

    Beyond its edge an image's own cells go on: padding is not looked at.
    """
    down = _weights(maps.shape[1], sizes[:, 0], onto[0], image_sizes[:, 0], maps.dtype)  # (B,H,H_l)
    across = _weights(maps.shape[2], sizes[:, 1], onto[1], image_sizes[:, 1], maps.dtype)  # (B,W,W_l)
    rows = (down @ maps.flatten(2)).unflatten(2, maps.shape[2:])  # (B,H,W_l,C)
    return across[:, None] @ rows


def _weights(cells: int, own: Tensor, wanted: int, own_wanted: Tensor, dtype: torch.dtype) -> Tensor:
    import torch  # that exported masks can be computed without it

    places = (torch.arange(wanted, device=own.device, dtype=torch.float32) + 0.5) * (own / own_wanted)[
        :, None
    ]
    places = torch.minimum((places - 0.5).clamp(min=0), (own - 1)[:, None].to(places.dtype))  # (B,wanted)
    distance = places[..., None] - torch.arange(cells, device=own.device, dtype=places.dtype)
    return (1 - distance.abs()).clamp(min=0).to(dtype)
