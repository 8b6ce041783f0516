"""Finding files by names that another machine wrote: Windows paths, absolute paths, folders not here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_DRIVE = re.compile(r"^[A-Za-z]:(?=[\\/]|$)")
_PROBES = 16
_DEEPEST = 16


@dataclass(frozen=True)
class Placement:
    """Where files lie: under `folder`, by their names less `dropped` parts (see `tail`)."""

    folder: Path
    dropped: int

    def path(self, name: str) -> Path:
        found = self.folder / tail(name, self.dropped)
        if (
            self.dropped
            and not os.path.isfile(found)
            and os.path.isfile(whole := self.folder / tail(name, 0))
        ):
            return whole
        return found


def place_of(names: Sequence[str], folders: Iterable[Path]) -> Placement | None:
    """The placement that finds the most of a few of `names`, the fewest parts dropped; None if none does."""
    probes = names[:: max(1, len(names) // _PROBES)][:_PROBES]
    best, most = None, 0
    tried = list(dict.fromkeys(folders))
    for dropped in range(max(map(_depth, probes), default=0)):
        shortened = [tail(name, dropped) for name in probes]
        for folder in tried:
            found = sum(os.path.isfile(folder / name) for name in shortened)
            if found > most:
                best, most = Placement(folder, dropped), found
        if most == len(probes):
            break
    return best


def first_existing(name: str, folders: Sequence[Path]) -> Path | None:
    """The file or folder that `name` stands for in one of `folders`, by as much of its path as is there."""
    places = (folder / shortened for shortened in tails(name) for folder in folders)
    return next((place for place in places if os.path.exists(place)), None)


def tails(name: str) -> Iterator[str]:
    """`name`, and what is left of it as one folder after the other is dropped."""
    return (tail(name, dropped) for dropped in range(_depth(name)))


def tail(name: str, dropped: int) -> str:
    """`name` with / between its folders; less its drive, root and `..` where `dropped` is 1, less one more
    folder for each 1 more. The file's own name always stays."""
    if not dropped:
        return name.replace("\\", "/")
    parts = _parts(name)
    return "/".join(parts[min(dropped, len(parts)) - 1 :])


def _depth(name: str) -> int:
    return min(_DEEPEST, len(_parts(name)) + 1)


def _parts(name: str) -> list[str]:
    name = _DRIVE.sub("", name.replace("\\", "/").removeprefix("file://"))
    return [part for part in name.split("/") if part not in ("", ".", "..")] or [name]
