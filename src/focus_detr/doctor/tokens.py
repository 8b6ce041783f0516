"""Which objects a size leaves too small for tokens, and what a budget could keep at best, without a model."""

# Shapes: N tokens of all levels of a picture, T objects, S budgets.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.doctor import Example, Finding, Subject
from focus_detr.data.doctor.box_checks import box_of
from focus_detr.evaluation.calibration import BUDGETS
from focus_detr.evaluation.tokens import SIZES, size_groups, tokens_inside
from focus_detr.printable import counted, in_number
from focus_detr.structures.boxes import xyxy_to_cxcywh

STRIDES = (8, 16, 32, 64)
"""Of the levels of the published models."""
_FEWEST = 0.95


@dataclass(frozen=True)
class _Seen:
    """An object: its record and row, its size, how many tokens lie in it, and its best recall (S,)."""

    index: int
    row: int
    size: int
    tokens: int
    recall: np.ndarray


def token_findings(
    subject: Subject, size: tuple[int, int], strides: Sequence[int] = STRIDES
) -> tuple[list[Finding], dict[str, Any]]:
    """Findings, and by split: objects, those without any token, and the expected recall at each budget.

    A budget is taken as the share of tokens that a layer works on, and its tokens as drawn evenly from those
    that lie in an object, and only then elsewhere: a selection that knows foreground from background, and not
    one object from another. With K tokens kept, M in objects and m in one of them, it keeps that one with
    probability 1 - (1 - K / M)^m, or surely where K >= M. A trained model's own is told by `explain`.

    Args:
        size: (height, width) that pictures are fitted into, in their shape.
    """
    findings: list[Finding] = []
    facts: dict[str, Any] = {}
    for split, dataset in subject.datasets.items():
        objects = list(_objects(dataset, size, strides))
        if not objects:
            continue
        facts[split] = _facts(objects)
        findings += _findings(split, dataset, objects, size)
    said = {"size": list(size), "strides": list(strides), "budgets": list(BUDGETS), "splits": facts}
    return findings, said


def _objects(dataset: DetectionDataset, size: tuple[int, int], strides: Sequence[int]) -> Iterator[_Seen]:
    for index, (record, known) in enumerate(zip(dataset.records, dataset.sizes(), strict=True)):
        if known is None or not len(record.labels):
            continue
        width, height = known
        scale = min(size[0] / height, size[1] / width)
        sides = max(1, round(height * scale)), max(1, round(width * scale))
        shapes = [(-(-sides[0] // stride), -(-sides[1] // stride)) for stride in strides]
        boxes = torch.from_numpy(record.boxes_xyxy).float()
        fractions = xyxy_to_cxcywh(boxes / torch.tensor([width, height, width, height]))
        inside = tokens_inside(shapes, torch.tensor(shapes), fractions)  # (N,T)
        own = inside.sum(0).numpy()
        every = int(inside.any(1).sum())
        groups = size_groups(fractions, torch.tensor([height, width]))[1:].argmax(0)
        kept = np.asarray(BUDGETS) * len(inside)
        missed = 1 - np.minimum(kept / max(every, 1), 1)  # (S,)
        for row, tokens in enumerate(own.tolist()):
            recall = 1 - missed**tokens if tokens else np.zeros(len(BUDGETS))
            yield _Seen(index, row, int(groups[row]), tokens, recall)


def _facts(objects: Sequence[_Seen]) -> dict[str, Any]:
    by_size = {"all": list(objects)}
    for place, name in enumerate(SIZES[1:]):
        by_size[name] = [each for each in objects if each.size == place]
    return {
        name: {
            "objects": len(group),
            "without_a_token": sum(not each.tokens for each in group),
            "expected_recall": np.mean([each.recall for each in group], axis=0).round(4).tolist(),
        }
        for name, group in by_size.items()
        if group
    }


def _findings(
    split: str, dataset: DetectionDataset, objects: Sequence[_Seen], size: tuple[int, int]
) -> Iterator[Finding]:
    at = f"{size[0]}x{size[1]}"

    def finding(kind: str, few: Sequence[_Seen], what: str) -> Finding:
        grave = len(few) > (1 - _FEWEST) * len(objects)
        first = dataset.records[few[0].index]
        examples = []
        for each in few[:12]:
            record = dataset.records[each.index]
            name = dataset.class_names[record.labels[each.row]]
            count = counted(each.tokens, "token")
            examples.append(Example(record.path, box_of(record, each.row), f"{name}, {count}"))
        return Finding(
            kind,
            "warning" if grave else "note",
            str(first.path),
            in_number(f"{{count}} of {counted(len(objects), 'object')} {what} at {at}", len(few)),
            "Train and predict at a larger size, or predict in tiles (--tile).",
            split,
            examples=tuple(examples),
        )

    lost = [each for each in objects if not each.tokens]
    if lost:
        yield finding("objects-without-tokens", lost, "[holds|hold] no token's centre, whatever the budget,")
    tiny = [each for each in objects if each.tokens == 1]
    if tiny:
        yield finding("tiny-objects", tiny, "[holds|hold] one token's centre alone")
