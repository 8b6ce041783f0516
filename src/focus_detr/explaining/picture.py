"""explain_picture(): what a model looks at in one picture, at budget after budget.

Gathered here as plain data; `explaining.picture_page` draws it, `explaining.picture_html` writes it.
"""

# Shapes: L levels, H W height and width, Q queries, h heads, P points, T objects found, M points of a query.

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from focus_detr.benchmarking.timing import take_turns
from focus_detr.evaluation.matching import overlaps
from focus_detr.evaluation.tables import Cell, table
from focus_detr.explaining.models import budgets_beside, explainable, share_of
from focus_detr.inference.choosing import Threshold
from focus_detr.inference.looking import places_looked_at
from focus_detr.pictures.heatmap import by_level, foreground_scores, kept_tokens

if TYPE_CHECKING:
    from focus_detr.inference import Predictor
    from focus_detr.models.detector import FocusDetrForObjectDetection

_SLOW = 1.0
"""Seconds a look beyond which it is timed once."""
_SHOWN_ANYHOW = 5
"""Detections of a model that finds nothing, by which one still sees where it looks."""


@dataclass(frozen=True)
class Samples:
    """Where a query looked in the last decoder layer, all heads and levels together.

    Attributes:
        points: (M,2) x and y, pixels of the image; levels: (M,) of each, 0 the finest.
        weights: (M,) how much each counts; they sum to 1.
    """

    points: np.ndarray
    levels: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Found:
    """An object found: label, score, corners in pixels of the image, and where its query looked, if known."""

    label: int
    score: float
    box_xyxy: tuple[float, float, float, float]
    samples: Samples | None


@dataclass(frozen=True)
class Layer:
    """An encoder layer's tokens: one bool array (H_l, W_l) a level.

    Attributes:
        kept: those it works on.
        fine: those of them that attend to one another; None where this policy has no such thing.
    """

    kept: list[np.ndarray]
    fine: list[np.ndarray] | None

    @property
    def count(self) -> int:
        """Tokens kept."""
        return sum(int(level.sum()) for level in self.kept)


@dataclass(frozen=True)
class View:
    """The picture at one budget.

    Attributes:
        budget: mean share of tokens that a layer works on.
        own: whether it is what the model does when nothing is said.
        seconds: of the picture, from pixels to boxes; the shortest of a few runs.
        objects: found, best first.
        partners: of each of these, the position of the same object in the own view, or None.
        lost: positions of the own view's objects that are not found here.
    """

    budget: float
    own: bool
    seconds: float
    layers: list[Layer]
    objects: list[Found]
    partners: list[int | None]
    lost: list[int]


@dataclass(frozen=True)
class PictureExplanation:
    """What `explain_picture` found.

    Attributes:
        name: of the picture; image: RGB.
        class_names: by label; threshold: score that objects must reach, or that of each class by its name.
        host, token_policy: what the model is made of.
        scores: foreground score (H_l, W_l), 0..1, of each level; None where tokens have none.
        views: of each budget, rising.
        notes: what cannot be shown, and why, by the part of the page it would be on: "budgets", "scores",
            "kept", "fine", "samples", "objects".
    """

    name: str
    image: Image.Image
    class_names: tuple[str, ...]
    threshold: float | dict[str, float]
    host: str
    token_policy: str
    scores: list[np.ndarray] | None
    views: list[View]
    notes: dict[str, str]

    @property
    def own(self) -> View:
        """What the model does when no budget is said."""
        return next(view for view in self.views if view.own)

    @property
    def num_tokens(self) -> int:
        """N: tokens of all levels."""
        return sum(level.size for level in self.own.layers[0].kept)

    def summary(self) -> str:
        """As text, for people."""
        layers = [f"layer {number}" for number in range(1, len(self.own.layers) + 1)]
        rows: list[list[Cell]] = [
            [
                f"{view.budget:.2f}{'  own' if view.own else ''}",
                f"{1000 * view.seconds:.0f} ms",
                len(view.objects),
                len(view.lost),
                *(layer.count for layer in view.layers),
            ]
            for view in self.views
        ]
        said = table(("budget", "time", "objects", "lost", *layers), rows)
        return "\n\n".join([f"{self.num_tokens} tokens in {self.name}", said, *self.notes.values()])

    def to_dict(self) -> dict[str, Any]:
        """As plain values, without pixels and tokens."""
        return {
            "image": self.name,
            "width": self.image.width,
            "height": self.image.height,
            "host": self.host,
            "token_policy": self.token_policy,
            "threshold": self.threshold,
            "tokens": self.num_tokens,
            "notes": self.notes,
            "budgets": [
                {
                    "budget": view.budget,
                    "own": view.own,
                    "seconds": view.seconds,
                    "kept": [layer.count for layer in view.layers],
                    "objects": [
                        {
                            "label": found.label,
                            "name": self.class_names[found.label],
                            "score": found.score,
                            "box_xyxy": list(found.box_xyxy),
                        }
                        for found in view.objects
                    ],
                    "lost": view.lost,
                }
                for view in self.views
            ],
        }


def explain_picture(
    predictor: Predictor,
    image: Image.Image,
    name: str = "picture",
    *,
    budgets: Sequence[float] | None = None,
    threshold: Threshold | None = None,
    runs: int | None = None,
    progress: bool = False,
) -> PictureExplanation:
    """Look at a picture at the model's own budget and at others.

    Args:
        image: RGB.
        budgets: those to look at beside the model's own: nine when not given, none for models that take none.
        threshold: score that objects must reach, or scores by class; the model's own when not given. Where
            none reaches it, the best few are shown all the same, and a note says so.
        runs: at each budget, to time, in turns: three when not given, or one where that would take long.

    Raises:
        FocusDetrError: an exported model, or an option that cannot be used.
    """
    model = explainable(predictor)
    lowest = predictor.threshold_by_label(threshold)
    began = time.perf_counter()
    outputs = predictor.run([image], with_samples=True)
    if runs is None:
        runs = 3 if time.perf_counter() - began < _SLOW else 1
    notes = _notes(model, outputs)
    reference = _objects(predictor, outputs, image, lowest)
    if not reference and (best := _objects(predictor, outputs, image, 0.0)[:_SHOWN_ANYHOW]):
        wanted = f"a score of {lowest:.2f}" if isinstance(lowest, float) else "the score of its class"
        notes["objects"] = f"Nothing reaches {wanted}: shown are the {len(best)} best answers."
        lowest = best[-1].score
        reference = _objects(predictor, outputs, image, lowest)
    scored = outputs.plan is not None and outputs.plan.scores is not None
    scores = foreground_scores(outputs) if scored else None
    own = share_of(outputs.plan, num_tokens(outputs))
    shares = budgets_beside(model, own, budgets)

    with tqdm(total=len(shares) + runs * (1 + len(shares)), unit="look", disable=not progress) as bar:
        views = {own: _view(model, outputs, own, True, reference, reference)}
        for share in shares:
            outputs = predictor.run([image], share, with_samples=True)
            objects = _objects(predictor, outputs, image, lowest)
            views[share] = _view(model, outputs, share, False, reference, objects)
            bar.update()
        seconds = _seconds(predictor, image, {own: None, **{share: share for share in shares}}, runs, bar)
    return PictureExplanation(
        name=name,
        image=image.convert("RGB"),
        class_names=predictor.class_names,
        threshold=lowest
        if isinstance(lowest, float)
        else {name: lowest[label] for label, name in enumerate(predictor.class_names)},
        host=model.config.host,
        token_policy=model.config.token_policy,
        scores=scores,
        views=[replace(views[share], seconds=seconds[share]) for share in sorted(views)],
        notes=notes,
    )


def _view(
    model: FocusDetrForObjectDetection,
    outputs: Any,
    share: float,
    own: bool,
    reference: Sequence[Found],
    objects: list[Found],
) -> View:
    partners = same_objects(reference, objects)
    lost = sorted(set(range(len(reference))) - set(partners))
    return View(share, own, math.nan, _layers(model, outputs), objects, partners, lost)


def _layers(model: FocusDetrForObjectDetection, outputs: Any) -> list[Layer]:
    if outputs.plan is None:
        every = by_level(outputs, np.ones(num_tokens(outputs, padded=True), dtype=bool))
        return [Layer(every, None)] * model.config.encoder_layers
    layers = []
    for j in range(len(outputs.plan.counts)):
        fine = None
        if outputs.fine_tokens:
            marks = np.zeros(num_tokens(outputs, padded=True), dtype=bool)
            tokens = outputs.fine_tokens[j][0].cpu().numpy()
            marks[tokens[tokens >= 0]] = True
            fine = by_level(outputs, marks)
        layers.append(Layer(kept_tokens(outputs, j), fine))
    return layers


def num_tokens(outputs: Any, image: int = 0, padded: bool = False) -> int:
    """N of an image; of its canvas, where that is asked for."""
    if padded:
        return sum(height * width for height, width in outputs.spatial_shapes)
    return int(outputs.level_sizes[image].prod(-1).sum())


def _objects(predictor: Predictor, outputs: Any, image: Image.Image, threshold: Threshold) -> list[Found]:
    (found,) = predictor.decode(outputs, [image], threshold=threshold)
    queries = found.instances.queries
    places = None if queries is None else places_looked_at(outputs, 0, queries, found.image_size)
    samples: list[Samples | None] = [None] * len(found)
    if places is not None:
        weights = outputs.samples[-1][1]  # (1,Q,h,L,P)
        levels = np.arange(weights.shape[3])[None, :, None].repeat(weights.shape[2], 0)
        levels = levels.repeat(weights.shape[4], 2).flatten()
        samples = [Samples(each[:, :2], levels, each[:, 2]) for each in places]
    rows = zip(found.labels.tolist(), found.scores.tolist(), found.boxes_xyxy.tolist(), samples, strict=True)
    return [Found(label, score, tuple(box), where) for label, score, box, where in rows]


def same_objects(reference: Sequence[Found], objects: Sequence[Found]) -> list[int | None]:
    """Of each object, best first, the position of the same one in ``reference``: one to one, of its class,
    and overlapping by half at least; None where there is none."""
    free = dict(enumerate(reference))
    partners: list[int | None] = []
    for found in objects:
        near = [i for i, other in free.items() if other.label == found.label]
        boxes = np.array([free[i].box_xyxy for i in near]).reshape(-1, 4)
        overlap = overlaps(np.array([found.box_xyxy]), boxes)[0]
        best = near[int(overlap.argmax())] if near and overlap.max() >= 0.5 else None
        partners.append(best)
        if best is not None:
            del free[best]
    return partners


def _seconds(
    predictor: Predictor, image: Image.Image, said: Mapping[float, float | None], runs: int, bar: tqdm[Any]
) -> dict[float, float]:
    """The shortest run with each of the budgets ``said``, by the share that it is."""

    def finish() -> None:
        bar.update()
        if predictor.device.type == "cuda":
            torch.cuda.synchronize(predictor.device)

    # Each has had its first run, which says where it looked.
    works = {str(share): partial(predictor.run, [image], budget) for share, budget in said.items()}
    taken = take_turns(works, runs, warmup=0, finish=finish)
    return {share: taken[str(share)].best for share in said}


def _notes(model: FocusDetrForObjectDetection, outputs: Any) -> dict[str, str]:
    policy, host = model.config.token_policy, model.config.host
    notes = {}
    if outputs.plan is None:
        notes["kept"] = f"Every encoder layer works on every token (token policy {policy!r})."
    if outputs.plan is None or outputs.plan.scores is None:
        notes["scores"] = f"The token policy {policy!r} gives tokens no scores."
    if not model.encoder.takes_budget:
        notes["budgets"] = f"The token policy {policy!r} takes no budget: a smaller one cannot be shown."
    if not outputs.fine_tokens:
        notes["fine"] = (
            f"No tokens are fine-grained: the token policy {policy!r} is without dual attention here."
        )
    if not outputs.samples:
        notes["samples"] = f"The decoder of host {host!r} attends to all tokens, and samples no points."
    return notes
