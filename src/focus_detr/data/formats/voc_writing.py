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


def lines_of(class_names: Sequence[str]) -> list[str]:
    """Each class's name as a line of its own that is no other class's; one without a visible character would
    be none."""
    lines: list[str] = []
    for label, name in enumerate(class_names):
        line = in_line(name).strip() or f"class {label}"
        while line != name and (line in lines or line in class_names):
            line = f"{line} ({label})"
        lines.append(line)
    return lines
