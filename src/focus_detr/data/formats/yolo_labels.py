"""YOLO label files: where the one of an image lies, and what its rows say."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from focus_detr.data.formats.reading import UnreadableFileError, read_lines
from focus_detr.data.formats.searching import files_below
from focus_detr.data.formats.source import Fault, ProblemLog, RawBox, Tally
from focus_detr.data.formats.values import number
from focus_detr.structures.masks import Mask

_SLACK = 1e-3
_IMAGE_FOLDERS = frozenset(("images", "jpegimages"))

_FORM = Fault(
    "bad-label-row",
    "error",
    "{count} row[|s] [is|are] not 'class cx cy w h' (nor a polygon) and [was|were] left out",
    "Write five numbers a row; keypoints after them need a `kpt_shape` in the yaml.",
)
_CONFIDENCE = Fault(
    "bad-label-row",
    "error",
    "{count} row[|s] [has|have] a sixth number, as the confidence of a prediction, and [was|were] left out",
    "Leave the sixth number out where the boxes are right.",
)
_RANGE = Fault(
    "label-out-of-range",
    "error",
    "{count} row[|s] [has|have] values outside 0..1 and [was|were] left out",
    "Divide x and w by the width, y and h by the height.",
)
_KEYPOINTS = Fault(
    "bad-label-row",
    "error",
    "{count} row[|s] [looks|look] like a box and its keypoints (x, y, and 0, 1 or 2 for seen or not) "
    "and [was|were] left out",
    "Name the keypoints in the yaml, `kpt_shape: [number, 3]`.",
)

NO_PICTURE = Fault(
    "missing-image",
    "error",
    "{count} label file[|s] [has|have] no picture",
    "Add what is missing, or remove the file.",
)


@dataclass(frozen=True)
class RowForm:
    """What the rows of a data set hold. `keypoint_values`: numbers of keypoints after the four of the box.
    `masks`: polygons are kept as masks."""

    names: dict[int, str]
    keypoint_values: int = 0
    masks: bool = False

    @property
    def unknown_class(self) -> Fault:
        return Fault(
            "class-out-of-range",
            "error",
            "{count} row[|s] [names|name] a class the data set does not have and [was|were] left out",
            f"Classes are 0 to {len(self.names) - 1}.",
        )


def label_file(image: Path) -> Path:
    """The label file of an image; where none is there, the one that the usual layout would have."""
    places = list(_places(image))
    found = next((place for place in places if os.path.lexists(place)), None)
    if found is None and os.path.exists(image) and (behind_link := Path(os.path.realpath(image))) != image:
        found = next((place for place in _places(behind_link) if os.path.lexists(place)), None)
    return found or places[0]


def labels_without_picture(folder: Path, labels: Collection[Path]) -> list[Path]:
    """Label files of pictures that would lie in ``folder`` and are not there; ``labels`` are those in use.

    Only what holds rows of numbers is one: lists and notes are text files, too.
    """
    for place in (each.parent for each in _places(folder / "picture")):
        if any(place in label.parents for label in labels):
            found = files_below(place, lambda path: path.suffix == ".txt" and not path.name.startswith("."))
            return [file for file in found if file not in labels and _holds_rows(file)]
    return []


def _holds_rows(file: Path) -> bool:
    try:
        rows = [_columns(line) for line in read_lines(file)[:1]]
    except UnreadableFileError:
        return False
    return any(len(row) >= 5 and all(number(text) is not None for text in row) for row in rows)


def read_rows(file: Path, form: RowForm, log: ProblemLog) -> tuple[list[RawBox], int]:
    """The boxes of a label file, and how many of its rows (at least 1 if it cannot be read) were refused."""
    try:
        rows = [row for line in read_lines(file) if (row := line.partition("#")[0].strip())]
    except UnreadableFileError as error:
        log.add("bad-annotation", "error", file, str(error).removeprefix(f"{file}: "), "Write it again.")
        return [], 1
    boxes: list[RawBox] = []
    tally = Tally(file, log)
    for position, row in enumerate(rows):
        box = _parse_row(_columns(row), form)
        if isinstance(box, RawBox):
            boxes.append(box)
        else:
            tally.add(box, f"row {position + 1}")
    tally.report()
    return boxes, len(rows) - len(boxes)


def _columns(row: str) -> list[str]:
    """The columns of a row, between spaces as YOLO writes them, or semicolons or commas as spreadsheets do.

    "1 0,25 ..." are decimal commas.
    """
    if ";" in row:
        return [column.strip() for column in row.rstrip("; ").split(";")]
    columns = row.split()
    if "," in row and (len(columns) == 1 or all(column.endswith(",") for column in columns[:-1])):
        return [column.strip() for column in row.rstrip(", ").split(",")]
    return columns


def _places(image: Path) -> Iterator[Path]:
    """The last `images` folder of the path becomes `labels`; or one further up; or beside the image."""
    parts = list(image.parts)
    for position in range(len(parts) - 2, -1, -1):
        if parts[position].lower() in _IMAGE_FOLDERS:
            yield _text_file(Path(*parts[:position], "labels", *parts[position + 1 :]))
    yield _text_file(image)


def _text_file(image: Path) -> Path:
    return Path(f"{os.path.splitext(image)[0]}.txt")


def _parse_row(row: list[str], form: RowForm) -> RawBox | Fault:
    """A box, or what is wrong with the row. Polygon rows give the box around the polygon."""
    try:
        values = [float(text) for text in row]
    except ValueError:
        values = [value for text in row if (value := number(text)) is not None]
    if len(values) < len(row) or len(row) < 5:
        return _FORM
    label, box = values[0], values[1:]
    if form.keypoint_values and len(box) == 4 + form.keypoint_values:
        box = box[:4]
    is_polygon = not form.keypoint_values and len(box) >= 6 and len(box) % 2 == 0
    if len(box) != 4 and not is_polygon:
        return _CONFIDENCE if len(box) == 5 else _FORM
    if is_polygon and _looks_like_keypoints(box):
        return _KEYPOINTS
    if label not in form.names:
        return form.unknown_class
    if any(value < -_SLACK or value > 1 + _SLACK for value in box):
        return _RANGE
    if is_polygon:
        xs, ys = box[0::2], box[1::2]
        mask = Mask.of_rings([box]) if form.masks else None
        return RawBox((min(xs), min(ys), max(xs), max(ys)), int(label), mask=mask)
    cx, cy, width, height = box
    return RawBox((cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2), int(label))


def _looks_like_keypoints(values: list[float]) -> bool:
    """Whether two keypoints or more with their visibility follow a box; a closed polygon is none."""
    seen = values[6::3]
    whole = len(values) == 4 + 3 * len(seen) and len(seen) >= 2
    return whole and all(value in (0, 1, 2) for value in seen) and values[:2] != values[-2:]
