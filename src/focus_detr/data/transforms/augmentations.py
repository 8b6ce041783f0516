"""build_transforms: the named augmentation recipes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from focus_detr.data.transforms.geometric import (
    Compose,
    HorizontalFlip,
    OneOf,
    PhotometricDistortion,
    RandomCrop,
    RandomResize,
    Resize,
    ScaleJitter,
    VerticalFlip,
)
from focus_detr.data.transforms.mosaic import Mosaic
from focus_detr.errors import FocusDetrError
from focus_detr.images.reading import check_size

_DETR_SIZE = {"shortest_edge": 800, "longest_edge": 1333}


def build_transforms(name: str, **options: Any) -> Compose:
    """The recipe `name`: "none", "detr" or "small-data".

    All take `size`, an image processor's size dictionary: the scale a model trains at. The other options are
    the arguments of the functions `none`, `detr` and `small_data` here.

    Raises `FocusDetrError` for a recipe or an option that does not exist, or an unusable value.
    """
    if name not in _RECIPES:
        raise FocusDetrError(
            f"transforms={name!r}: no such recipe. There are {', '.join(map(repr, _RECIPES))}."
        )
    known = inspect.signature(_RECIPES[name]).parameters
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise FocusDetrError(
            f"transforms {name!r} has no option {', '.join(map(repr, unknown))}. Options: {', '.join(known)}."
        )
    return _RECIPES[name](**options)


def none(size: int | dict[str, int] | None = None) -> Compose:
    """No augmentation: the resizing of inference, or nothing at all without `size`."""
    return Compose(() if size is None else (Resize(check_size(size)),))


def detr(
    size: int | dict[str, int] | None = None,
    shortest_edges: Sequence[int] | None = None,
    crop_shortest_edges: Sequence[int] | None = None,
    crop_range: tuple[int, int] | None = None,
    flip: float = 0.5,
) -> Compose:
    """The recipe of DETR, DINO and Focus-DETR: flip, then either a multi-scale resize or, as likely, resize,
    crop and the same multi-scale resize.

    At the published size 800 (within 1333) the shorter side is one of 480, 512, ..., 800, the crop is taken
    at 400, 500 or 600 with sides of 384 to 600. At another `size` these all scale with it. A
    {"height", "width"} size stretches to it instead of the multi-scale resize.
    """
    full = check_size(_DETR_SIZE if size is None else size)
    shortest = full.get("shortest_edge") or min(full["height"], full["width"])
    scale = shortest / _DETR_SIZE["shortest_edge"]

    def scaled(*pixels: int) -> tuple[int, ...]:
        return tuple(max(1, round(value * scale)) for value in pixels)

    edges = _pixels("shortest_edges", shortest_edges or scaled(*range(480, 801, 32)))
    crop_edges = _pixels("crop_shortest_edges", crop_shortest_edges or scaled(400, 500, 600))
    smallest, largest = _range("crop_range", crop_range or scaled(384, 600))
    final = Resize(full) if "height" in full else RandomResize(edges, full.get("longest_edge"))
    crop_first = Compose((RandomResize(crop_edges), RandomCrop(int(smallest), int(largest)), final))
    return Compose((HorizontalFlip(_probability("flip", flip)), OneOf((final, crop_first))))


def small_data(
    size: int | dict[str, int] | None = None,
    horizontal_flip: float = 0.5,
    vertical_flip: float = 0.0,
    photometric: float = 0.8,
    scale: tuple[float, float] = (0.6, 1.6),
    mosaic: float = 0.3,
) -> Compose:
    """For hundreds of images rather than a hundred thousand: flips, color, strong scale jitter, mosaics.

    The probabilities are those of each step; set `vertical_flip=0.5` where up and down mean nothing
    (microscopy, views from above). `mosaic` needs a `TransformedDataset`, which lends it the other images.
    """
    full = check_size(_DETR_SIZE if size is None else size)
    return Compose(
        (
            Mosaic(full, _probability("mosaic", mosaic)),
            HorizontalFlip(_probability("horizontal_flip", horizontal_flip)),
            VerticalFlip(_probability("vertical_flip", vertical_flip)),
            ScaleJitter(full, _range("scale", scale)),
            PhotometricDistortion(probability=_probability("photometric", photometric)),
        )
    )


_RECIPES: dict[str, Callable[..., Compose]] = {"none": none, "detr": detr, "small-data": small_data}


def _probability(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise FocusDetrError(f"{name}={value!r}: must be a probability, 0 to 1.")
    return float(value)


def _pixels(name: str, values: Sequence[int]) -> tuple[int, ...]:
    if isinstance(values, str) or not values or not all(type(value) is int and value > 0 for value in values):
        raise FocusDetrError(f"{name}={values!r}: must be one or more whole numbers of pixels.")
    return tuple(values)


def _range(name: str, values: Sequence[float]) -> tuple[float, float]:
    pair = tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else ()
    if len(pair) != 2 or not all(isinstance(v, int | float) for v in pair) or not 0 < pair[0] <= pair[1]:
        raise FocusDetrError(f"{name}={values!r}: must be two positive numbers, the smaller first.")
    return pair[0], pair[1]
