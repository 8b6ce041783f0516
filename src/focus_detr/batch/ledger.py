"""The ledger of a run, in its output folder: what was asked, which blocks there are, which of them are done.

    run.json             what was asked
    manifest.jsonl       a line for each block (`focus_detr.batch.blocks`)
    parts/000/000012.parquet    the results of block 12: there, the block is done; not there, it is not
    begun/000012.json    block 12 was begun: how often, and what became of it
    summary.json         all is done, and the parts are merged

Each is written whole or not at all, so that whoever reads the ledger, after whatever ended a process, reads
the truth; and nothing else is remembered anywhere.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from focus_detr.batch.places import Place

PATIENCE = 3
"""Times that a block is begun as usual before its pictures are looked at one by one."""
_DEATHS = 2
"""Processes that may end over one picture."""


@dataclass(frozen=True)
class Ledger:
    """Of the run in the folder ``output``."""

    output: Place

    @property
    def run(self) -> Place:
        return self.output / "run.json"

    @property
    def manifest(self) -> Place:
        return self.output / "manifest.jsonl"

    @property
    def summary(self) -> Place:
        return self.output / "summary.json"

    @property
    def parts(self) -> Place:
        return self.output / "parts"

    @property
    def begun(self) -> Place:
        return self.output / "begun"

    def part(self, number: int) -> Place:
        return self.parts / f"{number // 1000:03d}" / f"{number:06d}.parquet"

    def done(self) -> set[int]:
        """The numbers of the blocks that are done."""
        names = (re.search(r"/(\d{6,})\.parquet\Z", each.name) for each in self.parts.files())
        return {int(found[1]) for found in names if found}

    def attempts(self, number: int) -> Attempts:
        return Attempts(self.begun / f"{number:06d}.json")


class Attempts:
    """How often a block was begun, and over which of its pictures processes have ended.

    A decoder that takes its process down, or a picture that fills the memory, would else be tried for ever.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._times = 0
        self._at: int | None = None
        self._deaths: Counter[int] = Counter()

    def begin(self) -> bool:
        """Count this attempt; says whether pictures are to be looked at one by one, each announced."""
        if self._place.exists():
            found: dict[str, Any] = json.loads(self._place.read())
            self._times = found["times"]
            self._deaths = Counter({int(row): count for row, count in found["deaths"].items()})
            if found["at"] is not None:
                self._deaths[found["at"]] += 1
        self._times += 1
        self._write()
        return self._times > PATIENCE

    def is_deadly(self, row: int) -> bool:
        """Whether a picture is not to be looked at again."""
        return self._deaths[row] >= _DEATHS

    def look_at(self, row: int) -> None:
        """Announce the picture that is looked at next."""
        self._at = row
        self._write()

    def take_back(self) -> None:
        """The attempt was given up, by an error or an interruption; no process has died of it."""
        self._times, self._at = self._times - 1, None
        self._write() if self._times else self.end()

    def end(self) -> None:
        """The block is done."""
        self._place.remove()

    def _write(self) -> None:
        state = {"times": self._times, "at": self._at, "deaths": self._deaths}
        self._place.write(json.dumps(state).encode())
