"""Predictions as labels to correct: data sets of YOLO and Pascal VOC that labelling tools and we open."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import yaml

from focus_detr.data.formats.voc_writing import add, annotation, lines_of
from focus_detr.data.writing.yolo import NARROWEST
from focus_detr.folders import whole_file
from focus_detr.inference.folder_writer import FolderWriter, write_picture
from focus_detr.inference.results import Detections
from focus_detr.inference.writers import Result, write_all


class YoloWriter(FolderWriter):
    """`data.yaml`, `classes.txt`, and for each image `images/<name>` and `labels/<name>.txt`.

    Of a video that is tracked, `tracks/<name>.txt` has the number of each line's object, in their order, an
    empty line where there is none. With scores, too: as a line's seventh, it would make a polygon of a box.

    Boxes are fractions of six digits: a corner is off by a millionth of the image's side at most, and sides
    are `2e-5` of it at least. Objects with masks are polygons around these, parts joined by lines, holes
    filled.

    Args:
        folder: new or empty.
        scores: write them as a sixth number, as labelling tools take predictions; readers of labels to learn
            from, ours included, refuse it.
    """

    def __init__(self, folder: str | os.PathLike[str], scores: bool = False, *, resume: bool = False) -> None:
        super().__init__(folder, resume=resume)
        self._scores = scores

    def _begin(self, class_names: Sequence[str]) -> None:
        self._images, self._labels = _made(self.folder, "images", "labels")
        self._tracks = self.folder / "tracks"
        names = lines_of(class_names)
        # No `path`: without it, readers count from the file itself.
        content = {"train": "images", "nc": len(names), "names": dict(enumerate(names))}
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=float("inf"))
        _write_text(self.folder / "classes.txt", "".join(f"{name}\n" for name in names))
        _write_text(self.folder / "data.yaml", text)

    def _write(self, name: str, result: Detections) -> None:
        size = np.array(result.image_size[::-1])
        low, high = result.boxes_xyxy[:, :2] / size, result.boxes_xyxy[:, 2:] / size  # (T,2) each
        boxes_cxcywh = np.concatenate([(low + high) / 2, np.maximum(high - low, NARROWEST)], axis=1)
        values = np.column_stack([boxes_cxcywh, result.scores]) if self._scores else boxes_cxcywh
        shapes = [row.tolist() for row in values]
        for index, mask in enumerate([] if result.masks is None else result.masks):
            ring = mask.outline(result.image_size) / size
            if len(ring) >= 3:  # otherwise its box is all that there is
                score = [float(result.scores[index])] if self._scores else []
                shapes[index] = [*ring.reshape(-1).tolist(), *score]
        numbers = ["" if number is None else f"{number}" for number in result.track_numbers()]
        rows = [
            f"{label} {' '.join(f'{value:.6f}' for value in row)}\n"
            for label, row in zip(result.labels, shapes, strict=True)
        ]
        if numbers:
            self._tracks.mkdir(exist_ok=True)
            _write_text(self._tracks / f"{name}.txt", "".join(f"{number}\n" for number in numbers))
        # Before the picture: without labels, it would count as one without result.
        _write_text(self._labels / f"{name}.txt", "".join(rows))
        write_picture(result, self._images, name)


class VocWriter(FolderWriter):
    """`labels.txt`, `ImageSets/Main/train.txt`, and for each image `JPEGImages/<name>` and
    `Annotations/<name>.xml`, with scores; the number of its track is an object's attribute `track_id`, as
    CVAT writes and reads them.

    Boxes are whole pixels, counted from 1 with the last one included: a side is off by half a pixel at most,
    and boxes are two pixels wide and high at least.
    """

    def _begin(self, class_names: Sequence[str]) -> None:
        self._images, self._annotations, lists = _made(
            self.folder, "JPEGImages", "Annotations", "ImageSets/Main"
        )
        self._listed = lists / "train.txt"
        _write_text(self._listed, "")
        names = lines_of(class_names)
        _write_text(self.folder / "labels.txt", "".join(f"{name}\n" for name in names))

    def _write(self, name: str, result: Detections) -> None:
        picture = write_picture(result, self._images, name)
        height, width = result.image_size
        root = annotation(self._images / picture.name, (width, height))
        boxes = _whole_pixels(result.boxes_xyxy, (width, height))
        each = zip_longest(result.labels, result.scores, boxes.tolist(), result.track_numbers())
        names = lines_of(result.names)
        for label, score, box, number in each:
            node = ElementTree.SubElement(root, "object")
            add(node, name=names[label], pose="Unspecified", truncated=0, difficult=0)
            add(node, score=f"{score:.5f}")
            sides = dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
            add(ElementTree.SubElement(node, "bndbox"), **sides)
            if number is not None:
                attributes = ElementTree.SubElement(node, "attributes")
                add(ElementTree.SubElement(attributes, "attribute"), name="track_id", value=number)
        ElementTree.indent(root)
        with whole_file(self._annotations / f"{name}.xml") as stream:
            ElementTree.ElementTree(root).write(stream, encoding="utf-8", xml_declaration=True)

    def _list(self, name: str) -> None:
        with open(self._listed, "a", encoding="utf-8") as stream:
            stream.write(f"{name}\n")


def write_yolo(results: Iterable[Result], folder: str | os.PathLike[str], scores: bool = False) -> int:
    """Write a YOLO data set (see `YoloWriter`) as results arrive; returns the number of result.

    Images that are no files have to be kept: ``predict(..., keep_images=True)``.
    """
    return write_all(results, YoloWriter(folder, scores))


def write_voc(results: Iterable[Result], folder: str | os.PathLike[str]) -> int:
    """Write a Pascal VOC data set (see `VocWriter`) as results arrive; returns the number of result.

    Images that are no files have to be kept: ``predict(..., keep_images=True)``.
    """
    return write_all(results, VocWriter(folder))


def _whole_pixels(boxes_xyxy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes (T,4) as xmin, ymin, xmax, ymax of VOC."""
    limits = np.array(size)
    low, high = np.rint(boxes_xyxy[:, :2]).astype(int), np.rint(boxes_xyxy[:, 2:]).astype(int)
    # Readers take one pixel, xmin = xmax, for an empty box.
    narrow = high - low < 2
    around = np.rint((boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2 - 1).astype(int)
    low = np.where(narrow, np.clip(around, 0, np.maximum(limits - 2, 0)), low)
    high = np.where(narrow, np.minimum(low + 2, limits), high)
    first = np.where(high - low < 2, low, low + 1)  # an image of one pixel leaves no room for two
    return np.concatenate([first, high], axis=1)


def _made(folder: Path, *names: str) -> list[Path]:
    places = [folder / name for name in names]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    return places


def _write_text(file: Path, text: str) -> None:
    with whole_file(file) as stream:
        stream.write(text.encode())
