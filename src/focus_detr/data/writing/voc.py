"""Pascal VOC: `JPEGImages`, `Annotations`, the splits in `ImageSets/Main`, and `labels.txt`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.formats.voc_writing import add, annotation, lines_of
from focus_detr.data.naming import FreeNames
from focus_detr.data.writing.changes import Changes
from focus_detr.data.writing.objects import Written, objects_of, widened
from focus_detr.data.writing.pictures import PictureCopies

_NARROWEST = 1.02
"""Pixels: with the last pixel included, a side of one has xmin = xmax, which readers take for none."""
_AXES = ("x", "y")


def write(splits: Mapping[str, DetectionDataset], folder: Path, changes: Changes) -> None:
    """Holds boxes, to a thousandth pixel, and polygons of one ring; what it does not is counted.

    VOC counts pixels from 1 and includes the last one: a box [left, right] is xmin = left + 1, xmax = right.
    """
    images, annotations, lists = (folder / name for name in ("JPEGImages", "Annotations", "ImageSets/Main"))
    for place in (images, annotations, lists):
        place.mkdir(parents=True)
    first = next(iter(splits.values()))
    names = lines_of(first.class_names)
    for name, line in zip(first.class_names, names, strict=True):
        if line != name:
            changes.changed.append(f"class {name!r} is {line!r}: VOC has names of one line")
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    copies = PictureCopies(changes, FreeNames(dots=False))
    for split, dataset in splits.items():
        stems = []
        for record in dataset.records:
            copy = copies.copy(record.path, images)
            stems.append(copy.stem)
            written = list(objects_of(record))
            objects = [each for each in written if not each.crowd]
            segmented = int(any(each.mask is not None for each in objects))
            root = annotation(images / copy.name, record.size, segmented)
            for each in objects:
                _add_object(root, each, names[each.label], record.size, changes)
            ElementTree.indent(root)
            ElementTree.ElementTree(root).write(
                annotations / f"{copy.stem}.xml", encoding="utf-8", xml_declaration=True
            )
            changes.objects[split] += len(objects)
            changes.lose(
                "crowd [region was left out: it is|regions were left out: they are] background now",
                len(written) - len(objects),
            )
            areas = sum(each.says_area for each in objects)
            changes.lose(
                "[area other than that of its box was|areas other than those of boxes were] left out", areas
            )
        (lists / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")
        changes.pictures[split] = len(stems)


def _add_object(
    root: ElementTree.Element, each: Written, name: str, size: tuple[int, int], changes: Changes
) -> None:
    node = ElementTree.SubElement(root, "object")
    add(node, name=name, pose="Unspecified", truncated=0, difficult=0)
    box = widened(each.box_xyxy, size, _NARROWEST)
    if box != each.box_xyxy:
        changes.lose("[box|boxes] a pixel wide or high, or less, [was|were] made a little larger")
    sides = []
    for low, high in ((box[0], box[2]), (box[1], box[3])):
        # In a picture of one pixel there is no room for the last one to be another.
        sides.append((low + 1 if high - low > 1 else 0, high))
    (xmin, xmax), (ymin, ymax) = sides
    corners = {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax}
    add(
        ElementTree.SubElement(node, "bndbox"),
        **{side: f"{value:.3f}".rstrip("0").rstrip(".") for side, value in corners.items()},
    )
    if each.mask is None:
        return
    rings = each.rings
    if rings is None or len(rings) > 1:
        changes.lose(
            "[mask of pixels or of several polygons became a box|masks of pixels or of several "
            "polygons became boxes]"
        )
        return
    polygon = ElementTree.SubElement(node, "polygon")
    for number, point in enumerate(np.round(rings[0], 4).tolist(), 1):
        add(polygon, **{f"{axis}{number}": value for axis, value in zip(_AXES, point, strict=True)})
