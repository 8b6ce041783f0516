"""Folders that are complete or absent, so that a run killed at any moment leaves one to continue from."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def checkpoint_folder(root: Path, step: int) -> Path:
    return root / f"checkpoint-{step}"


def list_checkpoints(root: Path) -> list[Path]:
    """The complete checkpoints in ``root``, oldest first; those cut short have another name."""
    found = [path for path in root.glob("checkpoint-*") if path.is_dir() and _CHECKPOINT.fullmatch(path.name)]
    return sorted(found, key=_step)


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A new folder to write into, which takes the place of ``folder`` when the block ends without error."""
    writing, old = folder.with_name(f".{folder.name}.writing"), folder.with_name(f".{folder.name}.old")
    if old.is_dir() and not folder.exists():
        old.rename(folder)  # a run was killed between the two names
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir(parents=True)
    try:
        yield writing
    except BaseException:
        shutil.rmtree(writing, ignore_errors=True)
        raise
    put_in_place(writing, folder, old)


def put_in_place(writing: Path, folder: Path, old: Path) -> None:
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    writing.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def keep_newest(root: Path, count: int = 1) -> None:
    """Delete all checkpoints but the newest ``count``, and what killed runs left half written."""
    for path in list_checkpoints(root)[:-count]:
        # Renamed first: a deletion cut short must not leave something that looks complete.
        doomed = path.with_name(f".{path.name}.old")
        path.rename(doomed)
    for path in root.glob(".checkpoint-*"):
        shutil.rmtree(path, ignore_errors=True)


def way_out(checkpoint: Path) -> str:
    """How a run goes on whose checkpoint cannot be used."""
    before = [path for path in list_checkpoints(checkpoint.parent) if _step(path) < _step(checkpoint)]
    then = f"from {before[-1].name}" if before else "from the run's beginning, as there is no earlier one"
    return f"Delete the folder {checkpoint} and resume again, which goes on {then}."


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
