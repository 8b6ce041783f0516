"""Transforms: callables (Sample, Draws) -> Sample, deterministic given the draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from PIL import Image, ImageEnhance

from focus_detr.data.records import Sample
from focus_detr.data.transforms.draws import Draws


class Transform(Protocol):
    def __call__(self, sample: Sample, draws: Draws) -> Sample: ...


@dataclass(frozen=True)
class Compose:
    """Applies `steps` in order."""

    steps: tuple[Transform, ...] = ()

    def __call__(self, sample: Sample, draws: Draws) -> Sample:
        for step in self.steps:
            sample = step(sample, draws)
        return sample


@dataclass(frozen=True)
class OneOf:
    """One of `choices`, each as likely."""

    choices: tuple[Transform, ...]

    def __call__(self, sample: Sample, draws: Draws) -> Sample:
        return self.choices[int(draws.shared.integers(len(self.choices)))](sample, draws)


@dataclass(frozen=True)
class HorizontalFlip:
    probability: float = 0.5

    def __call__(self, sample: Sample, draws: Draws) -> Sample:
        if draws.own.random() >= self.probability:
            return sample
        flipped = sample.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return move_objects(sample, flipped, scale=(-1, 1), shift=(sample.image.width, 0))


@dataclass(frozen=True)
class VerticalFlip:
    probability: float = 0.5

    def __call__(self, sample: Sample, draws: Draws) -> Sample:
        if draws.own.random() >= self.probability:
            return sample
        flipped = sample.image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        return move_objects(sample, flipped, scale=(1, -1), shift=(0, sample.image.height))


@dataclass(frozen=True)
class Resize:
    """Resizes as the image processor does at inference: `size` is its size dictionary, in pixels."""

    size: dict[str, int]

    def __call__(self, sample: Sample, draws: Draws) -> Sample:
        return resize(sample, *draws.target_size(sample.image.height, sample.image.width, self.size))


@dataclass(frozen=True)
class RandomResize:
    """Scales the shorter side to one of `shortest_edges` (pixels), the longer kept within `longest_edge`."""

    shortest_edges: Sequence[int]
    longest_edge: int | None = None

    def __call__(self, sample: Sample, draws: Draws) -> Sample:
        shortest = self.shortest_edges[int(draws.shared.integers(len(self.shortest_edges)))]
        size = {"shortest_edge": shortest}
        if self.longest_edge is not None:
            size["longest_edge"] = self.longest_edge
        return resize(sample, *draws.target_size(sample.image.height, sample.image.width, size))


@dataclass(frozen=True)
class RandomCrop:
    """A window whose sides are each drawn from `smallest`..`largest` pixels, or the image's side if less.

    The "absolute range" crop of DETR: boxes are clipped to the window and kept while any area is left.
    """

    smallest: int
    largest: int

    def __call__(self, sample: Sample, draws: Draws) -> Sample:
        height, width = (
            int(draws.shared.integers(min(side, self.smallest), min(side, self.largest) + 1))
            for side in (sample.image.height, sample.image.width)
        )
        return random_window(sample, height, width, draws.own)


@dataclass(frozen=True)
class ScaleJitter:
    """Resizes to `size` times a factor, log-uniform over `factors`, and crops what is larger than `size`.

    Zooming in shows parts of objects, zooming out makes them small, as in large-scale jittering (Ghiasi et
    al. 2021); nothing is padded, the collator does that.
    Objects of which a crop leaves less than the share `min_visible` are forgotten.
    """

    size: dict[str, int]
    factors: tuple[float, float] = (0.6, 1.6)
    min_visible: float = 0.1

    def __call__(self, sample: Sample, draws: Draws) -> Sample:
        height, width = draws.target_size(sample.image.height, sample.image.width, self.size)
        factor = float(np.exp(draws.shared.uniform(np.log(self.factors[0]), np.log(self.factors[1]))))
        sample = resize(sample, max(1, round(height * factor)), max(1, round(width * factor)))
        if factor <= 1:
            return sample
        height, width = min(height, sample.image.height), min(width, sample.image.width)
        return random_window(sample, height, width, draws.own, self.min_visible)


@dataclass(frozen=True)
class PhotometricDistortion:
    """Brightness, contrast, saturation (factors within 1 +- the value) and hue (turned by up to that share of
    the circle), in random order. Boxes stay."""

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.3
    hue: float = 0.02
    probability: float = 0.8

    def __call__(self, sample: Sample, draws: Draws) -> Sample:
        if draws.own.random() >= self.probability:
            return sample
        image = sample.image
        enhancers = (
            (ImageEnhance.Brightness, self.brightness),
            (ImageEnhance.Contrast, self.contrast),
            (ImageEnhance.Color, self.saturation),
        )
        for position in draws.own.permutation(len(enhancers)):
            enhancer, amount = enhancers[position]
            if amount:
                image = enhancer(image).enhance(float(1 + draws.own.uniform(-amount, amount)))
        if self.hue:
            image = _turn_hue(image, draws.own.uniform(-self.hue, self.hue))
        return replace(sample, image=image)


def _turn_hue(image: Image.Image, turn: float) -> Image.Image:
    steps = round(turn * 256)
    if steps == 0:
        return image
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([(level + steps) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def resize(sample: Sample, height: int, width: int) -> Sample:
    """`sample` at (height, width) pixels, by PIL's bilinear filter (which smooths when shrinking)."""
    image = sample.image
    if (image.width, image.height) == (width, height):
        return sample
    scale = (width / image.width, height / image.height)
    return move_objects(sample, image.resize((width, height), Image.Resampling.BILINEAR), scale=scale)


def random_window(
    sample: Sample, height: int, width: int, rng: np.random.Generator, min_visible: float = 0.0
) -> Sample:
    """A crop of (height, width) pixels from anywhere. See `move_objects` for `min_visible`."""
    top = int(rng.integers(sample.image.height - height + 1))
    left = int(rng.integers(sample.image.width - width + 1))
    window = sample.image.crop((left, top, left + width, top + height))
    return move_objects(sample, window, shift=(-left, -top), min_visible=min_visible)


def move_objects(
    sample: Sample,
    image: Image.Image,
    scale: tuple[float, float] = (1, 1),
    shift: tuple[float, float] = (0, 0),
    min_visible: float = 0.0,
) -> Sample:
    """The sample with a new image, in which x has become scale * x + shift. See `Instances.moved`."""
    return replace(
        sample,
        image=image,
        instances=sample.instances.transform(image.size, scale, shift, min_visible),
        crowds=sample.crowds.transform(image.size, scale, shift),
        taught=None
        if sample.taught is None
        else sample.taught.transform(image.size, scale, shift, min_visible),
    )
