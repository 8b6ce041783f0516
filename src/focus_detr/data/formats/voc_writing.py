"""What every Pascal VOC annotation begins with, whoever writes it, and how names stand in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from focus_detr.printable import in_line


def annotation(picture: Path, size: tuple[int, int], segmented: int = 0) -> ElementTree.Element:
    """The root of a picture's annotation, without its objects.

    Args:
        size: (width, height) in pixels.
        segmented: 1 where an object has a polygon.
    """
    root = ElementTree.Element("annotation")
    add(root, folder=picture.parent.name, filename=picture.name)
    width, height = size
    add(ElementTree.SubElement(root, "size"), width=width, height=height, depth=3)
    add(root, segmented=segmented)
    return root


def add(node: ElementTree.Element, **parts: object) -> None:
    """Elements of text below ``node``, by their tags."""
    for tag, value in parts.items():
        ElementTree.SubElement(node, tag).text = str(value)


def line_of(label: int, class_names: Sequence[str]) -> str:
    """A class's name on a line of its own; a name without a visible character would be none."""
    return in_line(class_names[label]).strip() or f"class {label}"
