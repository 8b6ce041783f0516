"""Classes have colors of their own in every picture, which can be told apart."""

import numpy as np

from focus_detr.pictures.palette import class_color, ink_on


def test_colors_are_distinct():
    colors = [class_color(label) for label in range(80)]
    assert len(set(colors)) == 80
    distances = [np.abs(np.subtract(a, b)).sum() for i, a in enumerate(colors[:12]) for b in colors[:i]]
    assert min(distances) > 60


def test_text_is_dark_on_light_colors_and_light_on_dark_ones() -> None:
    assert ink_on((255, 255, 0)) == (0, 0, 0) and ink_on((0, 0, 160)) == (255, 255, 255)
