"""Which of many files are the same picture: one file named twice, or copies byte for byte."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path


def same_files(paths: Sequence[Path], contents: bool = True) -> list[list[int]]:
    """Positions in ``paths`` by picture, ascending, every position once; files not there are told apart by
    path.

    Only files of one size are read, and none without ``contents``, which leaves copies apart.
    """
    by_size: dict[int, dict[Hashable, list[int]]] = defaultdict(lambda: defaultdict(list))
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for position, path in enumerate(paths):
        try:
            state = os.stat(path)
        except OSError:
            groups["path", str(path)].append(position)
            continue
        by_size[state.st_size][state.st_dev, state.st_ino].append(position)
    for size, files in by_size.items():
        for identity, positions in files.items():
            read = contents and len(files) > 1
            content = _digest(paths[positions[0]]) if read else None
            groups["file", size, content or identity] += positions
    return sorted(map(sorted, groups.values()))


def _digest(path: Path) -> bytes | None:
    """None where the file cannot be read."""
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "blake2b").digest()
    except OSError:
        return None
