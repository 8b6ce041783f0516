"""What a run has found so far, in a file that outlives it, so that another run can go on."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from focus_detr.errors import FocusDetrError
from focus_detr.folders import whole_file
from focus_detr.inference.batches import complete_batches
from focus_detr.inference.results import BadImage, Detections
from focus_detr.inference.writers import Result
from focus_detr.structures.frame import Frame
from focus_detr.structures.instances import Instances
from focus_detr.structures.masks import Mask, as_array

_PLAIN = tuple(
    field.name
    for field in fields(Detections)
    if field.name not in ("instances", "names", "image", "frame", "earlier")
)
"""Facts of detections that JSON has a form for; the others have one below."""


class Journal:
    """A line for what was asked of the run, and one for each result, to the bit; entered by `with`.

    A result stands here when everything else that is written of it is there. What an earlier run left is
    read when this is made, and stays in the file.

    Args:
        file: where it is kept, until `finish`.
        choices: what was asked of the run and changes its results, by option.
        batch_size: of the run; images of a batch that was not completed are forgotten, so that those to come
            meet the same ones in theirs, and results are the same to the last digit.
        resume: go on with what the file holds, if there is one, or begin anew.

    Raises:
        FocusDetrError: the earlier run was asked for something else, or its file is damaged.
    """

    def __init__(
        self, file: Path, choices: Mapping[str, Any], batch_size: int = 1, *, resume: bool = False
    ) -> None:
        self._file, self._choices = file, json.loads(json.dumps(choices))
        self._names: Sequence[str] | None = None
        self._stream: IO[str] | None = None
        results = self._read() if resume and file.exists() else []
        self.results: list[Result] = results[: complete_batches(results, batch_size)]
        self._waiting: dict[str, deque[Result]] = defaultdict(deque)
        for result in self.results:
            self._waiting[result.path].append(result)

    def known(self, name: str) -> Result | None:
        """The earlier result of an image, given once: of images of one name, the first one's first."""
        waiting = self._waiting.get(name)
        return waiting.popleft() if waiting else None

    def left(self) -> Iterator[Result]:
        """The earlier results that nobody has asked for until now, in their order."""
        waiting = {id(result) for each in self._waiting.values() for result in each}
        self._waiting.clear()
        yield from (result for result in self.results if id(result) in waiting)

    def __enter__(self) -> Self:
        with whole_file(self._file) as stream:
            stream.write(_line({"choices": self._choices}).encode())
            for result in self.results:
                stream.write(self._line_of(result).encode())
        self._stream = open(self._file, "a", encoding="utf-8")
        return self

    def add(self, result: Result) -> None:
        """Keep a result; those that stand here already are passed over."""
        if not result.earlier and self._stream is not None:
            self._stream.write(self._line_of(result))
            self._stream.flush()

    def finish(self) -> None:
        """There is nothing to go on with: everything is done."""
        self.__exit__()
        self._file.unlink(missing_ok=True)

    def __exit__(self, *error: object) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _line_of(self, result: Result) -> str:
        if isinstance(result, BadImage):
            return _line({"path": result.path, "reason": result.reason})
        names = {} if self._names == result.names else {"names": list(result.names)}
        self._names = result.names
        known = result.instances.known()
        masks = known.pop("masks", None)
        facts: dict[str, Any] = {
            name: {"type": values.dtype.str, "shape": values.shape, "values": values.ravel().tolist()}
            for name, values in known.items()
        }
        if masks is not None:
            facts["masks"] = [mask and mask.to_coco(result.image_size) for mask in masks]
        frame = None if result.frame is None else asdict(result.frame)
        plain = {name: getattr(result, name) for name in _PLAIN}
        return _line({**plain, "frame": frame, **names, "instances": facts})

    def _read(self) -> list[Result]:
        # A last line without an end was being written when the run ended.
        *lines, _ = self._file.read_bytes().split(b"\n")
        if not lines:
            return []
        results, names = list[Result](), ()
        for number, text in enumerate(lines, start=1):
            try:
                entry = json.loads(text)
                if number == 1:
                    self._compare(entry["choices"])
                elif "reason" in entry:
                    results.append(BadImage(entry["path"], entry["reason"], earlier=True))
                else:
                    names = tuple(entry.get("names", names))
                    results.append(_detections(entry, names))
            except FocusDetrError:
                raise
            except (ValueError, KeyError, TypeError) as error:
                raise FocusDetrError(
                    f"{self._file}:{number}: is damaged ({error}); remove it, to begin the run anew"
                ) from error
        return results

    def _compare(self, before: Mapping[str, Any]) -> None:
        for name, value in self._choices.items():
            if before.get(name) != value:
                raise FocusDetrError(
                    f"{name}: {value!r} is not what the run to go on with, in {self._file.parent}, was asked "
                    f"for, {before.get(name)!r}; ask for the same, or begin a run in a folder of its own"
                )


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry) + "\n"  # in ASCII, which holds names that are no Unicode, too


def _detections(entry: Mapping[str, Any], names: Sequence[str]) -> Detections:
    masks = entry["instances"].pop("masks", None)
    facts = {
        name: np.array(fact["values"], dtype=np.dtype(fact["type"])).reshape(fact["shape"])
        for name, fact in entry["instances"].items()
    }
    if masks is not None:
        facts["masks"] = as_array(mask and Mask.of_coco(mask) for mask in masks)
    plain = {name: entry[name] for name in _PLAIN}
    plain["image_size"] = tuple(plain["image_size"])
    frame = None if entry["frame"] is None else Frame(**entry["frame"])
    return Detections(**plain, instances=Instances(**facts), names=names, frame=frame, earlier=True)
