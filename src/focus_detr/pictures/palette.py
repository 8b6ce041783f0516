"""Colors of classes and of curves, the same in all pictures."""

from __future__ import annotations

import colorsys

Color = tuple[int, int, int]

CURVES = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00",
    "#56b4e9", "#8c564b", "#6a51a3", "#7f7f7f", "#b5bd00",
)  # fmt: skip
"""Colors of the curves of one diagram, told apart by the color-blind, too."""
_CLASSES: tuple[Color, ...] = (
    (230, 57, 70), (0, 150, 136), (255, 183, 3), (58, 134, 255), (155, 93, 229), (120, 190, 33),
    (251, 111, 146), (0, 187, 249), (244, 124, 32), (38, 70, 183), (177, 112, 61), (0, 104, 71),
)  # fmt: skip


def class_color(label: int) -> Color:
    """The color of a class: a hand-picked one for the first twelve, then hues as far apart as can be."""
    if label < len(_CLASSES):
        return _CLASSES[label]
    step = label - len(_CLASSES)
    # The golden ratio spreads any number of hues evenly.
    hue = (0.08 + step * 0.618034) % 1
    lightness, saturation = (0.42, 0.58, 0.34)[step % 3], (0.85, 0.65)[step % 2]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation)
    return round(255 * red), round(255 * green), round(255 * blue)


def ink_on(background: Color) -> Color:
    """Black or white, whichever is read more easily on a color."""
    red, green, blue = background
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else (255, 255, 255)
