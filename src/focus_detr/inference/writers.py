"""Files of results, written as results arrive: what was found stays, however the run ends."""

from __future__ import annotations

import csv
import io
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
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
    """One open file of results, whole after each of them.

    Args:
        end: what closes the file, always there, which the next result is written over.
    """

    def __init__(self, file: str | os.PathLike[str], start: bytes = b"", end: bytes = b"") -> None:
        super().__init__()
        # Unbuffered, so that each result is one write, and nothing waits in memory.
        self._stream: IO[bytes] = open(file, "wb", buffering=0)
        self._length, self._end = 0, end
        self._append(start)

    def _append(self, content: bytes) -> None:
        """Write all of it, or leave the file as it was where the disk does not take it."""
        try:
            self._put(content + self._end)
        except OSError:
            with suppress(OSError):
                self._stream.truncate(self._length)
                self._put(self._end)
            raise
        self._length += len(content)

    def _put(self, content: bytes) -> None:
        self._stream.seek(self._length)
        rest = memoryview(content)
        while rest:  # a disk with little space takes a part, and refuses the next
            rest = rest[self._stream.write(rest) :]

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
        super().__init__(file, b"[", b"]")
        self._category_ids, self._image_ids = category_ids, image_ids or {}
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
        self._append((b",\n" if self.count else b"") + lines)
        self.count += len(entries)


class CsvWriter(FileWriter):
    """One row an object; `count` is the number of rows. Index and seconds are empty where it is no frame, the
    number of the track where there is none."""

    def __init__(self, file: str | os.PathLike[str]) -> None:
        sides = ("left", "top", "right", "bottom")
        super().__init__(file, _csv([["path", "label", "name", "score", *sides, *_PLACE, "track_id"]]))

    def add(self, result: Result) -> None:
        if isinstance(result, BadImage):
            return
        described = result.to_dict()
        place, rows = [described.get(name) for name in _PLACE], []
        for item in described["objects"]:
            box = [round(value, 2) for value in item["box_xyxy"]]
            score, track = round(item["score"], 5), item.get("track_id")
            rows.append([described["path"], item["label"], item["name"], score, *box, *place, track])
        self._append(_csv(rows))
        self.count += len(rows)


class JsonLinesWriter(FileWriter):
    """One JSON object a line and image, bad images included; `count` is the number of lines."""

    def add(self, result: Result) -> None:
        self._append(_encoded(json.dumps(result.to_dict(), ensure_ascii=False) + "\n"))
        self.count += 1


def _csv(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return _encoded(text.getvalue())


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # names of files may be no Unicode


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
