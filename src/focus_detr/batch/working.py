"""A worker: blocks in, their parts committed; reading runs ahead of the model, from block to block."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from torch import Tensor

from focus_detr.batch.ahead import ahead
from focus_detr.batch.blocks import Block
from focus_detr.batch.ledger import Attempts, Ledger
from focus_detr.batch.letters import DEADLY, UNREACHABLE, DeadLetter
from focus_detr.batch.places import Place
from focus_detr.batch.reading import Item, items_of, limits, patiently, read
from focus_detr.batch.rows import part_of, row_of
from focus_detr.errors import FocusDetrError
from focus_detr.inference.choosing import Threshold, lowest_scores
from focus_detr.inference.predictor import Predictor
from focus_detr.inference.results import Detections
from focus_detr.structures.classes import Classes, reported_classes

_ENDED = "the process that looked at it ended, twice (its decoder failed, or memory ran out)"


@dataclass(frozen=True)
class Work:
    """What is done with each picture of a run, and how; travels to other processes.

    Attributes:
        output: folder of the run, whose ledger it is.
        model: as `focus_detr.zoo.resolve.resolve_model` takes it.
        threshold, classes, budget, decoder_layers, deploy, device: as `Predictor` takes them.
        setting: of the model, by name; None leaves it as it is.
        batch_size: pictures that go through the model together.
        readers: threads that read pictures while the model works.
        threads: of torch; as it is when None.
    """

    output: Place
    model: str
    threshold: Threshold | None = None
    classes: Classes | None = None
    budget: float | str | None = None
    decoder_layers: int | None = None
    setting: str | None = None
    batch_size: int = 4
    max_megapixels: float = 200
    device: str | None = None
    deploy: bool = False
    trust_plugins: bool = False
    readers: int = 2
    threads: int | None = None

    def __hash__(self) -> int:
        return hash((self.output, self.model))  # thresholds and classes may be dictionaries


@dataclass(frozen=True)
class Done:
    """A block that is committed: its pictures, those that are dead letters, objects found."""

    block: int
    pictures: int
    dead: int
    objects: int
    seconds: float


@dataclass
class _Chunk:
    """Pictures of one block that go through the model together: taken, then read."""

    progress: _Progress
    items: list[tuple[int, Item | DeadLetter]]
    last: bool
    letters: dict[int, DeadLetter] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)  # height, width
    batch: tuple[Tensor, Tensor] | None = None  # pixel_values (B,3,H,W), pixel_mask (B,H,W)


@dataclass
class _Progress:
    number: int
    attempts: Attempts
    begun: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    unreachable: DeadLetter | None = None


class Worker:
    """Looks at blocks with a model that is loaded once."""

    def __init__(self, work: Work, predictor: Predictor | None = None) -> None:
        if work.threads is not None:
            import torch

            torch.set_num_threads(work.threads)
        self.work = work
        self._ledger = Ledger(work.output)
        self._options = limits(work.max_megapixels)
        self.predictor = predictor or Predictor.from_pretrained(
            work.model, device=work.device, deploy=work.deploy, trust_plugins=work.trust_plugins
        )
        if work.setting is not None:
            self.predictor = self.predictor.at(work.setting)
        self._budget = self.predictor.accept_budget(work.budget)
        self._layers = self.predictor.accept_decoder_layers(work.decoder_layers)
        refuse_unknown_classes(work, self.predictor.class_names)
        self._rule = getattr(self.predictor.processor, "size_of", None)
        self._facts: dict[str, Any] = {
            "category_ids": getattr(getattr(self.predictor.model, "config", None), "category_ids", None)
        }

    def run(self, blocks: Iterable[tuple[int, Block]]) -> Iterator[Done]:
        """Each block, committed when it is given.

        Raises:
            FocusDetrError: no picture of a block could be reached, or the model cannot be run.
        """
        under_way: set[Attempts] = set()
        try:
            chunks = self._chunks(blocks, under_way)
            with closing(ahead(self._read, chunks, self.work.readers)) as read_chunks:
                for chunk in read_chunks:
                    self._detect(chunk)
                    if chunk.last:
                        done = self._commit(chunk.progress)
                        under_way.discard(chunk.progress.attempts)
                        yield done
        finally:
            for attempts in under_way:
                attempts.take_back()

    def _chunks(self, blocks: Iterable[tuple[int, Block]], under_way: set[Attempts]) -> Iterator[_Chunk]:
        for number, block in blocks:
            attempts = self._ledger.attempts(number)
            careful = attempts.begin()
            under_way.add(attempts)
            progress = _Progress(number, attempts, time.monotonic())
            if careful:
                self._one_by_one(progress, block)
                yield _Chunk(progress, [], last=True)
                continue
            chunk = _Chunk(progress, [], last=False)
            for entry in enumerate(items_of(block, self._options)):
                if len(chunk.items) == self.work.batch_size:
                    yield chunk
                    chunk = _Chunk(progress, [], last=False)
                chunk.items.append(entry)
            chunk.last = True
            yield chunk

    def _one_by_one(self, progress: _Progress, block: Block) -> None:
        """All of a block over which processes have ended."""
        for row, item in enumerate(items_of(block, self._options)):
            if progress.attempts.is_deadly(row):
                item = DeadLetter(item.name, DEADLY, _ENDED)
            else:
                progress.attempts.look_at(row)
            self._detect(self._read(_Chunk(progress, [(row, item)], last=False)))

    def _read(self, chunk: _Chunk) -> _Chunk:
        """The chunk with its pictures as a batch for the model; run by several threads."""
        images = []
        for row, item in chunk.items:
            found = item if isinstance(item, DeadLetter) else read(item, self._rule, self._options)
            if isinstance(found, DeadLetter):
                chunk.letters[row] = found
            else:
                chunk.rows.append(row)
                chunk.sizes.append((found.size[1], found.size[0]))
                images.append(found.image)
        if images:
            chunk.batch = self.predictor.prepare(images)
        return chunk

    def _detect(self, chunk: _Chunk) -> None:
        found: dict[int, Detections | DeadLetter] = dict(chunk.letters)
        if chunk.batch is not None:
            outputs = self.predictor.run_prepared(
                *chunk.batch, budget=self._budget, decoder_layers=self._layers
            )
            names = {row: item.name for row, item in chunk.items}
            detections = self.predictor.decode(
                outputs,
                (),
                threshold=self.work.threshold,
                classes=self.work.classes,
                paths=[names[row] for row in chunk.rows],
                sizes=chunk.sizes,
            )
            found |= zip(chunk.rows, detections, strict=True)
        progress = chunk.progress
        for row, _ in chunk.items:
            result = found[row]
            progress.rows.append(row_of(result))
            if isinstance(result, DeadLetter):
                progress.counts["dead"] += 1
                # Of the web's pictures some are always gone; stores and disks come back.
                if result.kind == UNREACHABLE and not Place(result.name).is_web:
                    progress.unreachable = result
                    progress.counts["unreachable"] += 1
            else:
                progress.counts["objects"] += len(result)
                self._facts["names"] = list(result.names)

    def _commit(self, progress: _Progress) -> Done:
        pictures, counts = len(progress.rows), progress.counts
        letter = progress.unreachable
        if letter is not None and counts["unreachable"] == pictures > 1:
            raise FocusDetrError(
                f"{letter.name}: {letter.reason}; nor was any other of the {pictures} pictures of its block "
                "reached: see to the place they are in, and run the same command again to go on"
            )
        content = part_of(progress.rows, self._facts)
        patiently(lambda: self._ledger.part(progress.number).write(content))
        progress.attempts.end()
        seconds = time.monotonic() - progress.begun
        return Done(progress.number, pictures, counts["dead"], counts["objects"], seconds)


def refuse_unknown_classes(work: Work, names: Sequence[str]) -> None:
    """Raise `FocusDetrError` where a model of the classes ``names`` has not those that are asked for."""
    if work.classes is not None:
        reported_classes(work.classes, names)
    if isinstance(work.threshold, Mapping):
        lowest_scores(work.threshold, names, 0.0)


@lru_cache(maxsize=1)
def worker_of(work: Work) -> Worker:
    """This process's worker: that of a run before is let go, so that one model is loaded."""
    return Worker(work)
