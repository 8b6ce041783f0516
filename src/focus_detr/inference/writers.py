"""Files of results, written as results arrive: what was found stays, however the run ends."""

from __future__ import annotations

import csv
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, Self

from focus_detr.inference.results import BadImage, Detections
from focus_detr.printable import unicode_name

Result = Detections | BadImage

_PLACE = ("frame", "seconds")


class ResultWriter(ABC):
    """Where results go, closed by `with`; `count` says how much was written."""

    def __init__(self) -> None:
        self.count = 0

    @abstractmethod
    def add(self, result: Result) -> None:
        """Write one image's result; what is written is whole after it."""

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, *error: object) -> None: ...


class FileWriter(ResultWriter):
    """One open file of results."""

    def __init__(self, stream: IO[Any]) -> None:
        super().__init__()
        self._stream = stream

    def __exit__(self, *error: object) -> None:
        self._stream.close()


class CocoWriter(FileWriter):
    """A COCO results file; `count` is the number of objects. Images that could not be read are left out.

    Image ids come from `image_ids` (by path), else from the detections, else count from 1 as images arrive;
    each entry also names its file, so that counted ids can be traced.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        category_ids: Sequence[int] | None = None,
        image_ids: Mapping[str, int] | None = None,
    ) -> None:
        # Unbuffered, so that each image is one write, and the list's end never waits in memory.
        super().__init__(open(file, "wb", buffering=0))
        self._category_ids, self._image_ids = category_ids, image_ids or {}
        self._stream.write(b"[]")
        self._end = 1  # where the closing bracket stands; the next entries are written over it
        self._images = 0

    def add(self, result: Result) -> None:
        self._images += 1
        if isinstance(result, BadImage):
            return
        known = self._image_ids.get(result.path, result.image_id)
        entries = result.to_coco(self._images if known is None else known, self._category_ids)
        if not entries:
            return
        name = unicode_name(result.path)
        lines = ",\n".join(json.dumps({**entry, "file_name": name}) for entry in entries).encode()
        separator = b",\n" if self.count else b""
        self._stream.seek(self._end)
        self._stream.write(separator + lines + b"]")
        self._end += len(separator) + len(lines)
        self.count += len(entries)


class CsvWriter(FileWriter):
    """One row an object; `count` is the number of rows. Index and seconds are empty where it is no frame, the
    number of the track where there is none."""

    def __init__(self, file: str | os.PathLike[str]) -> None:
        super().__init__(open(file, "w", newline="", encoding="utf-8", errors="backslashreplace"))
        self._rows = csv.writer(self._stream)
        sides = ("left", "top", "right", "bottom")
        self._rows.writerow(["path", "label", "name", "score", *sides, *_PLACE, "track_id"])
        self._stream.flush()

    def add(self, result: Result) -> None:
        if isinstance(result, BadImage):
            return
        described = result.to_dict()
        place = [described.get(name) for name in _PLACE]
        for item in described["objects"]:
            box = [round(value, 2) for value in item["box_xyxy"]]
            score, track = round(item["score"], 5), item.get("track_id")
            self._rows.writerow([described["path"], item["label"], item["name"], score, *box, *place, track])
            self.count += 1
        self._stream.flush()


class JsonLinesWriter(FileWriter):
    """One JSON object a line and image, bad images included; `count` is the number of lines."""

    def __init__(self, file: str | os.PathLike[str]) -> None:
        super().__init__(open(file, "w", encoding="utf-8", errors="backslashreplace"))

    def add(self, result: Result) -> None:
        self._stream.write(json.dumps(result.to_dict(), ensure_ascii=False) + "\n")
        self._stream.flush()
        self.count += 1


def write_coco(
    results: Iterable[Result],
    file: str | os.PathLike[str],
    category_ids: Sequence[int] | None = None,
    image_ids: Mapping[str, int] | None = None,
) -> int:
    """Write a COCO results file (see `CocoWriter`) as results arrive; returns the number of objects."""
    return write_all(results, CocoWriter(file, category_ids, image_ids))


def write_csv(results: Iterable[Result], file: str | os.PathLike[str]) -> int:
    """Write one row an object, as results arrive; returns the number of rows."""
    return write_all(results, CsvWriter(file))


def write_jsonl(results: Iterable[Result], file: str | os.PathLike[str]) -> int:
    """Write one JSON object a line and image, bad images included, as results arrive; returns the lines."""
    return write_all(results, JsonLinesWriter(file))


def write_all(results: Iterable[Result], writer: ResultWriter) -> int:
    """Add every result as it arrives; returns the writer's count."""
    with writer:
        for result in results:
            writer.add(result)
    return writer.count
