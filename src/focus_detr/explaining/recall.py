"""explain_data(): of which objects of a data set the kept tokens hold none, at budget after budget.

Gathered here as plain data; `explaining.recall_page` draws it, `explaining.recall_html` writes it.
"""

# Shapes: S budgets, T objects of all images, N tokens of an image.

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from focus_detr.data import load_dataset
from focus_detr.data.dataset import DetectionDataset
from focus_detr.errors import FocusDetrError
from focus_detr.evaluation.tables import Cell, table
from focus_detr.evaluation.tokens import SIZES, kept_objects, size_groups, tokens_inside
from focus_detr.explaining.models import budgets_beside, explainable, share_of
from focus_detr.inference.results import BadImage
from focus_detr.structures.boxes import xyxy_to_cxcywh
from focus_detr.structures.geometry import flatten_levels
from focus_detr.structures.tokens import Tokens

if TYPE_CHECKING:
    from PIL import Image

    from focus_detr.data.records import Sample
    from focus_detr.inference import Predictor
    from focus_detr.models.detector import FocusDetrForObjectDetection
    from focus_detr.structures.geometry import Geometry
    from focus_detr.structures.plan import TokenPlan

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataObject:
    """A labelled object, and of which budgets it is lost.

    Attributes:
        index: of its record in the data set; path: of the picture.
        box_xyxy: in pixels of the picture as it is.
        size: "small", "medium" or "large", as COCO has it.
        reachable: whether any token's centre lies in it: if not, no budget keeps it.
        kept: whether the first encoder layer works on a token inside it, at each budget; kept_last: the last.
    """

    index: int
    path: Path
    label: int
    box_xyxy: tuple[float, float, float, float]
    size: str
    reachable: bool
    kept: tuple[bool, ...]
    kept_last: tuple[bool, ...]


@dataclass(frozen=True)
class Group:
    """Objects of one kind: how many, how many hold no token at all, and the share kept at each budget."""

    name: str
    objects: int
    unreachable: int
    recall: list[float]


@dataclass(frozen=True)
class DataExplanation:
    """What `explain_data` found.

    Attributes:
        dataset: what was looked at.
        token_policy: of the model.
        budgets: rising; own: the position of the model's own among them, the mean over pictures where a rule
            chooses it for each.
        objects: all objects, picture by picture.
        unreadable: pictures that were left out.
    """

    dataset: DetectionDataset
    token_policy: str
    budgets: list[float]
    own: int
    objects: list[DataObject]
    unreadable: list[BadImage]

    def by_size(self, last: bool = False) -> list[Group]:
        """All objects, and those of each size there are; ``last`` for the last layer's tokens."""
        groups = [self._group("all", self.objects, last)]
        for size in SIZES[1:]:
            groups.append(self._group(size, [each for each in self.objects if each.size == size], last))
        return [group for group in groups if group.objects]

    def by_class(self, last: bool = False) -> list[Group]:
        """Each class there are objects of."""
        of_label: dict[int, list[DataObject]] = {}
        for each in self.objects:
            of_label.setdefault(each.label, []).append(each)
        names = self.dataset.class_names
        return [self._group(names[label], of_label[label], last) for label in sorted(of_label)]

    def first_lost(self, most: int) -> list[DataObject]:
        """Objects that a token could keep and a budget loses: those first that already larger budgets lose,
        of these the smaller ones."""
        lost = [each for each in self.objects if each.reachable and not all(each.kept)]
        return sorted(lost, key=lambda each: (-self.lost_at(each), _area(each)))[:most]

    def lost_at(self, found: DataObject) -> int:
        """The position of the largest budget that loses an object, -1 where none does."""
        return max((place for place, kept in enumerate(found.kept) if not kept), default=-1)

    def summary(self) -> str:
        """As text, for people: shares of objects with a token in the first layer."""
        names = [f"{budget:.2f}{' own' if i == self.own else ''}" for i, budget in enumerate(self.budgets)]
        rows: list[list[Cell]] = [
            [group.name, group.objects, *group.recall] for group in [*self.by_size(), *self.by_class()]
        ]
        unreachable = sum(not each.reachable for each in self.objects)
        said = f"{len(self.objects)} objects; {unreachable} hold no token's centre, whatever the budget."
        return "\n\n".join([
            "Share of objects with a token in the first encoder layer, by budget",
            table(("objects", "number", *names), rows),
            said,
        ])  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""

        def groups(last: bool) -> dict[str, Any]:
            return {
                name: {group.name: group.recall for group in of_kind(last)}
                for name, of_kind in (("by_size", self.by_size), ("by_class", self.by_class))
            }

        return {
            "data": Path(self.dataset.name).name,
            "split": self.dataset.split,
            "images": len(self.dataset) - len(self.unreadable),
            "unreadable": [bad.to_dict() for bad in self.unreadable],
            "token_policy": self.token_policy,
            "budgets": self.budgets,
            "own": self.budgets[self.own],
            "objects": {group.name: group.objects for group in [*self.by_size(), *self.by_class()]},
            "unreachable": {group.name: group.unreachable for group in [*self.by_size(), *self.by_class()]},
            "first_layer": groups(last=False),
            "last_layer": groups(last=True),
            "lost": [
                {
                    "path": each.path.name,
                    "name": self.dataset.class_names[each.label],
                    "size": each.size,
                    "box_xyxy": list(each.box_xyxy),
                    "largest_budget_that_loses_it": self.budgets[self.lost_at(each)],
                }
                for each in self.first_lost(len(self.objects))
            ],
        }

    def _group(self, name: str, objects: list[DataObject], last: bool) -> Group:
        kept = np.array([each.kept_last if last else each.kept for each in objects], dtype=bool)
        recall = kept.reshape(len(objects), len(self.budgets)).mean(0).tolist() if objects else []
        return Group(name, len(objects), sum(not each.reachable for each in objects), recall)


def explain_data(
    predictor: Predictor,
    data: DetectionDataset | str | os.PathLike[str],
    *,
    split: str | None = "val",
    budgets: Sequence[float] | None = None,
    progress: bool = False,
) -> DataExplanation:
    """Which labelled objects still have a kept token, at the model's own budget and at others.

    An object is kept where the centre of a token that a layer works on lies in its box (`ForegroundRecall`).
    Scoring tokens is all that is computed: neither encoder nor decoder run.

    Args:
        data, split: as in `evaluate`.
        budgets: those to look at beside the model's own: nine when not given, none for models that take none.

    Raises:
        FocusDetrError: an exported model, one whose encoder leaves no tokens out, no object in
            the data, or an option that cannot be used.
    """
    model = explainable(predictor)
    dataset = data
    if not isinstance(dataset, DetectionDataset):
        dataset = load_dataset(Path(dataset), split, classes=list(predictor.class_names))
    beside: list[float] = []
    own: list[float] = []  # of each picture: a rule may choose it picture by picture
    objects: list[DataObject] = []
    unreadable: list[BadImage] = []
    for index, sample in _labelled(dataset, unreadable, progress):
        tokens = _tokens(predictor, model, sample.image)
        plan = _plan(model, tokens, None)
        own.append(share_of(plan, int(tokens.geometry.valid_counts()[0])))
        if len(own) == 1:
            beside = budgets_beside(model, own[0], budgets)
        plans = [plan, *(_plan(model, tokens, share) for share in beside)]
        objects += _objects(index, sample, tokens.geometry, plans)
    if not objects:
        raise FocusDetrError(f"explain: {dataset.name}: the split {dataset.split!r} has no readable object")
    shares = [float(np.mean(own)), *beside]
    order = sorted(range(len(shares)), key=lambda place: shares[place])
    return DataExplanation(
        dataset,
        model.config.token_policy,
        [shares[place] for place in order],
        order.index(0),
        [_ordered(each, order) for each in objects],
        unreadable,
    )


def _labelled(
    dataset: DetectionDataset, unreadable: list[BadImage], progress: bool
) -> Iterator[tuple[int, Sample]]:
    """The pictures with objects, and their positions; those that cannot be read are noted and passed over."""
    from tqdm import tqdm

    labelled = [index for index, record in enumerate(dataset.records) if len(record.labels)]
    for index in tqdm(labelled, f"explaining {dataset.split!r}", unit="image", disable=not progress):
        try:
            sample = dataset.read(index)
        except FocusDetrError as error:
            path = str(dataset.records[index].path)
            unreadable.append(BadImage(path, str(error).removeprefix(f"{path}: ")))
            logger.warning("left out: %s", error)
            continue
        yield index, sample


@torch.inference_mode()
def _tokens(predictor: Predictor, model: FocusDetrForObjectDetection, image: Image.Image) -> Tokens:
    batch = predictor.processor(images=[image], return_tensors="pt")
    pixels = batch["pixel_values"].to(predictor.device, predictor.dtype)
    levels, geometry = model.extract_levels(pixels, batch["pixel_mask"].to(predictor.device))
    content = flatten_levels(levels)
    return Tokens(content, model.encode_positions(geometry, content), geometry)


@torch.inference_mode()
def _plan(model: FocusDetrForObjectDetection, tokens: Tokens, share: float | None) -> TokenPlan:
    plan = model.encoder.plan_for(tokens, model.encoder.accept(share))
    if plan is None:
        raise FocusDetrError(
            "explain: every encoder layer of this model works on all tokens (token policy "
            f"{model.config.token_policy!r}): no object is lost; give a picture instead of a data set"
        )
    return plan


def _objects(index: int, sample: Sample, geometry: Geometry, plans: Sequence[TokenPlan]) -> list[DataObject]:
    width, height = sample.image.size
    boxes = torch.from_numpy(sample.boxes_xyxy).float()
    fractions = xyxy_to_cxcywh(boxes / torch.tensor([width, height, width, height]))
    inside = tokens_inside(geometry.shapes, geometry.sizes[0].cpu(), fractions)
    kept = np.stack([kept_objects(plan, inside, 0) for plan in plans])  # (S,layers,T)
    groups = size_groups(fractions, torch.tensor([height, width]))[1:]  # without "all"
    return [
        DataObject(
            index=index,
            path=sample.path,
            label=int(label),
            box_xyxy=tuple(box),
            size=SIZES[1 + int(groups[:, place].argmax())],
            reachable=bool(inside[:, place].any()),
            kept=tuple(kept[:, 0, place].tolist()),
            kept_last=tuple(kept[:, -1, place].tolist()),
        )
        for place, (label, box) in enumerate(zip(sample.labels, boxes.tolist(), strict=True))
    ]


def _ordered(each: DataObject, order: Sequence[int]) -> DataObject:
    return replace(
        each,
        kept=tuple(each.kept[place] for place in order),
        kept_last=tuple(each.kept_last[place] for place in order),
    )


def _area(found: DataObject) -> float:
    left, top, right, bottom = found.box_xyxy
    return (right - left) * (bottom - top)
