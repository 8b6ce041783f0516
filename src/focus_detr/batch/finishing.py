"""The end of a run: parts become the files that were asked for, and everything is counted once more."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from focus_detr.batch.blocks import block_places
from focus_detr.batch.ledger import Ledger
from focus_detr.batch.places import Place
from focus_detr.batch.reading import patiently
from focus_detr.batch.rows import detections_of, letter_schema, read_part, result_schema
from focus_detr.batch.table import arrow, relative_here
from focus_detr.errors import FocusDetrError
from focus_detr.inference.writers import CocoWriter, JsonLinesWriter, ResultWriter

FORMATS = {
    "parquet": "detections",
    "coco": "detections.coco.json",
    "json": "detections.jsonl",
}
"""Formats, and the names they have in the output folder; that of Parquet is a folder."""

LETTERS = "dead-letters.parquet"
ROWS_IN_A_FILE = 500_000


def finish(ledger: Ledger, formats: Sequence[str]) -> dict[str, Any]:
    """Merge the parts of all blocks, in their order, into each format; returns the summary, written last.

    May be ended at any point and begun again. Memory holds one block at a time.

    Raises:
        FocusDetrError: a block is not done, or has another number of pictures than the manifest says.
    """
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    with ExitStack() as stack:
        outputs = [stack.enter_context(_OUTPUTS[name](ledger.output / FORMATS[name])) for name in formats]
        letters = stack.enter_context(_Table(ledger.output / LETTERS, letter_schema()))
        for results, dead, facts in _parts(ledger, counts):
            for output in outputs:
                output.add(results, dead, facts)
            letters.write(dead)
            kinds.update(dead["kind"].to_pylist())
            counts["detected"] += results.num_rows
            counts["objects"] += _objects(results)
    summary = {
        "pictures": counts["pictures"],
        "detected": counts["detected"],
        "dead": sum(kinds.values()),
        "dead_by_kind": dict(kinds.most_common()),
        "objects": counts["objects"],
        "blocks": counts["blocks"],
    }
    ledger.summary.write(json.dumps(summary).encode())
    clear(ledger)
    return summary


def clear(ledger: Ledger) -> None:
    """Remove what nobody needs once the summary is there."""
    ledger.parts.remove()
    ledger.begun.remove()


def _parts(ledger: Ledger, counts: Counter[str]) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    for place in block_places(ledger.manifest):
        expected = place.read(ledger.manifest).pictures
        part = ledger.part(place.number)
        try:
            results, dead, facts = read_part(patiently(part.read))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FocusDetrError(
                f"{part.name}: the results of block {place.number} cannot be read ({error}); remove the "
                "file, if it is there, and run the same command again"
            ) from error
        found = results.num_rows + dead.num_rows
        if expected is not None and found != expected:
            raise FocusDetrError(
                f"{part.name}: holds {found} pictures of the {expected} of block {place.number}; remove it, "
                "and run the same command again"
            )
        counts["pictures"] += found
        counts["blocks"] += 1
        yield results, dead, facts


def _objects(results: Any) -> int:
    import pyarrow.compute as compute

    return int(compute.sum(compute.list_value_length(results["objects"])).as_py() or 0)


class _Table(AbstractContextManager["_Table"]):
    """One Parquet file, whole at the end of `with`."""

    def __init__(self, place: Place, schema: Any) -> None:
        self._place, self._schema, self._stack = place, relative_here(schema), ExitStack()
        self.rows = 0

    def __enter__(self) -> _Table:
        _, parquet = arrow()
        stream = self._stack.enter_context(self._place.whole())
        self._writer = self._stack.enter_context(
            parquet.ParquetWriter(stream, self._schema, compression="zstd")
        )
        return self

    def write(self, table: Any) -> None:
        if table.num_rows:
            self._writer.write_table(table.cast(self._schema))
            self.rows += table.num_rows

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)


class _Tables(AbstractContextManager["_Tables"]):
    """A folder of Parquet files of bounded size, numbered."""

    def __init__(self, folder: Place) -> None:
        self._folder, self._stack, self._files = folder, ExitStack(), 0

    def __enter__(self) -> _Tables:
        self._folder.remove()  # what a finishing that was ended left
        self._begin()
        return self

    def _begin(self) -> None:
        place = self._folder / f"{self._files:05d}.parquet"
        self._table = self._stack.enter_context(_Table(place, result_schema()))
        self._files += 1

    def add(self, results: Any, dead: Any, facts: dict[str, Any]) -> None:
        if self._table.rows >= ROWS_IN_A_FILE:
            self._stack.close()
            self._begin()
        self._table.write(results)

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)


class _Written(AbstractContextManager["_Written"]):
    """A file of `focus_detr.inference.writers`; its image ids count the pictures in it, from 1."""

    def __init__(self, place: Place, writer: Callable[[str, Any], ResultWriter]) -> None:
        self._place, self._make, self._stack = place, writer, ExitStack()
        self._writer: ResultWriter | None = None
        self._path = ""

    def __enter__(self) -> _Written:
        self._path = self._stack.enter_context(self._place.whole_path())
        return self

    def add(self, results: Any, dead: Any, facts: dict[str, Any]) -> None:
        if self._writer is None:
            self._begin(facts)
        assert self._writer is not None
        names = facts.get("names", ())
        for row in results.to_pylist():
            self._writer.add(detections_of(row, names))

    def _begin(self, facts: dict[str, Any]) -> None:
        self._writer = self._stack.enter_context(self._make(self._path, facts.get("category_ids")))

    def __exit__(self, *error: Any) -> None:
        if self._writer is None:
            self._begin({})
        self._stack.__exit__(*error)


_OUTPUTS: dict[str, Callable[[Place], Any]] = {
    "parquet": _Tables,
    "coco": lambda place: _Written(place, CocoWriter),
    "json": lambda place: _Written(place, lambda path, _: JsonLinesWriter(path)),
}
