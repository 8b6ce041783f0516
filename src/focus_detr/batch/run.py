"""A run over many pictures, from its inputs to its files; the same call goes on with one that was ended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from focus_detr.batch.blocks import BlockPlace, block_places, same_choices, write_manifest
from focus_detr.batch.finishing import FORMATS, clear, finish
from focus_detr.batch.inputs import Listing
from focus_detr.batch.ledger import Ledger
from focus_detr.batch.table import arrow
from focus_detr.batch.working import Done, Work, Worker
from focus_detr.disk import explained_disk, only_run
from focus_detr.errors import FocusDetrError
from focus_detr.inference.predictor import Predictor
from focus_detr.zoo.resolve import resolve_model


@dataclass(frozen=True)
class Started:
    """A run whose blocks are listed: how many there are, and how many an earlier process did."""

    ledger: Ledger
    blocks: int
    pictures: int | None
    done: frozenset[int]
    notes: tuple[str, ...]

    def pending(self) -> Iterator[BlockPlace]:
        return (place for place in block_places(self.ledger.manifest) if place.number not in self.done)


@contextmanager
def begun(
    listing: Listing, work: Work, formats: Sequence[str], choices: Mapping[str, Any]
) -> Iterator[Started]:
    """The run in the output folder of ``work``: gone on with where there is one, or listed.

    On a disk of this machine no other process has it until the end of `with`.

    Raises:
        FocusDetrError: nothing to be looked at, another run than was asked for, or one that is under way.
    """
    arrow()
    for name in formats:
        if name not in FORMATS:
            raise FocusDetrError(f"--format {name!r}: not known; use any of {', '.join(FORMATS)}")
    ledger = Ledger(work.output)
    with _alone(ledger):
        asked = json.loads(json.dumps({**choices, "model's files": fingerprint(resolve_model(work.model))}))
        notes: list[str] = []
        if ledger.run.exists():
            same_choices(json.loads(ledger.run.read())["choices"], asked, work.output)
        else:
            if work.output.exists() and any(_of_others(each.name) for each in work.output.files()):
                raise FocusDetrError(
                    f"--output {work.output.name}: holds files, and no run to go on with; give another place"
                )
            # The manifest first: with run.json, all that it stands for is there.
            write_manifest(ledger.manifest, listing.blocks())
            notes += listing.left_out
            if listing.twice:
                notes.append(f"{listing.twice} files are named twice, and looked at once")
            ledger.run.write(json.dumps({"choices": asked}).encode())
        blocks, pictures = 0, 0
        known = True
        for place in block_places(ledger.manifest):
            count = place.read(ledger.manifest).pictures
            blocks, pictures, known = blocks + 1, pictures + (count or 0), known and count is not None
        done = frozenset(ledger.done())
        yield Started(ledger, blocks, pictures if known else None, done, tuple(notes))


def run_here(work: Work, started: Started, predictor: Predictor | None = None) -> Iterator[Done]:
    """All that is left, in this process, which needs no Ray; blocks as they are done."""
    places = started.pending()
    first = next(places, None)
    if first is None:
        return
    worker = Worker(work, predictor)

    def blocks() -> Iterator[tuple[int, Any]]:
        yield first.number, first.read(started.ledger.manifest)
        for place in places:
            yield place.number, place.read(started.ledger.manifest)

    yield from worker.run(blocks())


def finished(ledger: Ledger) -> dict[str, Any] | None:
    """The summary of a run that is finished, None of another."""
    if not ledger.summary.exists():
        return None
    clear(ledger)  # where its last process was ended before it could
    return dict(json.loads(ledger.summary.read()))


def fingerprint(model: Path) -> str:
    """Of a model's files: a run does not go on with other weights under the same name."""
    files = [model] if model.is_file() else sorted(each for each in model.iterdir() if each.is_file())
    digest = hashlib.sha256()
    for file in files:
        if file.suffix in (".json", ".safetensors", ".bin", ".onnx", ".xml", ".pt2"):
            with open(file, "rb") as stream:
                digest.update(f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _of_others(name: str) -> bool:
    last = name.rpartition("/")[2]
    return last != "manifest.jsonl" and not last.startswith(".")


@contextmanager
def _alone(ledger: Ledger) -> Iterator[None]:
    """Two processes in one folder would do everything twice; stores know no locks."""
    if not ledger.output.is_local:
        yield
        return
    folder = Path(ledger.output.name)
    with only_run(folder, "--output"), explained_disk(folder, "--output", "run the same command again"):
        yield


__all__ = ["Done", "Started", "begun", "fingerprint", "finish", "finished", "run_here"]
