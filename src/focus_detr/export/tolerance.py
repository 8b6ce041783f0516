"""INT8 within a drop in average precision: the blocks that cost most are given back to float32."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from focus_detr.errors import FocusDetrError

if TYPE_CHECKING:
    from focus_detr.data.dataset import DetectionDataset
    from focus_detr.export.metadata import Metadata
    from focus_detr.inference import Detections
    from focus_detr.inference.sources.named import NamedImage
    from focus_detr.models import FocusDetrForObjectDetection

logger = logging.getLogger(__name__)

SEARCH_PICTURES = 10
"""Pictures of calibration that the cost of one block is measured on."""
_SCORE = 0.1  # of detections whose change is a cost


@dataclass(frozen=True)
class Tolerance:
    """What INT8 may cost, and where that is measured.

    Attributes:
        max_drop: of AP, 0..1, of the file in float32.
        dataset: labelled, other than what is reported on in the end: blocks are chosen by it.
    """

    max_drop: float
    dataset: DetectionDataset

    def __post_init__(self) -> None:
        if not isinstance(self.max_drop, int | float) or not 0 < self.max_drop < 1:
            raise FocusDetrError(
                f"max_drop={self.max_drop!r}: must lie between 0 and 1; 0.005 is half a point of AP"
            )


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        costs: of each block, the worst first, what its quantization alone costs.
        drops: by how many of the worst were given back, what AP was lost then.
        given_back: blocks in float32.
    """

    costs: dict[str, float]
    drops: dict[int, float]
    given_back: tuple[str, ...]


def search(
    blocks: Iterable[str],
    cost: Callable[[str], float],
    drop: Callable[[tuple[str, ...]], float],
    max_drop: float,
) -> Search:
    """The fewest of the worst blocks to give back so that no more than ``max_drop`` is lost.

    Costs are measured only where there is something to win, and drops by bisection: more given back is
    taken to lose no more.

    Args:
        cost: of quantizing one block alone.
        drop: with these blocks in float32.
    """
    blocks = tuple(blocks)
    drops = {0: drop(())}
    if drops[0] <= max_drop:
        return Search({}, drops, ())
    costs = dict(sorted(((each, cost(each)) for each in blocks), key=lambda item: -item[1]))
    worst = tuple(costs)
    low, high = 0, len(worst)  # what is too few, and what is enough: all of them are the file in float32
    while high - low > 1:
        middle = (low + high) // 2
        drops[middle] = drop(worst[:middle])
        low, high = (low, middle) if drops[middle] <= max_drop else (middle, high)
    if high == len(worst):
        raise FocusDetrError(
            f"max_drop={max_drop}: nothing can be in 8 bits; with {worst[-1]} alone the loss is "
            f"{drops.get(high - 1, drops[0]):.4f}: allow more, or take precision 'fp16'"
        )
    return Search(costs, drops, worst[:high])


def tolerable(
    graph: Any,
    model: FocusDetrForObjectDetection,
    metadata: Metadata,
    pictures: list[NamedImage],
    tolerance: Tolerance,
    save: Callable[[Any, Path], None],
    suffix: str,
) -> tuple[Any, Search]:
    """As `quantization.quantized`, with blocks given back until what is lost is tolerated.

    Candidates are measured as the files they would be, in their own runtime.

    Args:
        save: writes a graph to a file.
        suffix: of such a file.
    """
    from focus_detr.evaluation import evaluate
    from focus_detr.export.operations import coarse_groups, operations_of
    from focus_detr.export.quantization import quantized
    from focus_detr.inference import Predictor

    images = [picture.read() for picture in pictures[:SEARCH_PICTURES]]
    blocks = tuple(coarse_groups(operations_of(graph), model))

    with tempfile.TemporaryDirectory() as folder:

        def predictor(candidate: Any) -> Predictor:
            path = Path(folder) / f"candidate{suffix}"
            save(candidate, path)
            return Predictor.from_pretrained(path)

        def precision(candidate: Any) -> float:
            report = evaluate(predictor(candidate), tolerance.dataset, progress=False)
            return report.metrics.summary["AP"]

        def cost(block: str) -> float:
            others = [each for each in blocks if each != block]
            candidate = quantized(graph, model, metadata, pictures[:SEARCH_PICTURES], others)
            value = 1 - agreement(wanted, predictor(candidate).detect(images, threshold=0.0))
            logger.info("int8: %s alone costs %.4f", block, value)
            return value

        def drop(given_back: tuple[str, ...]) -> float:
            value = whole - precision(quantized(graph, model, metadata, pictures, given_back))
            logger.info("int8: AP lost with %d blocks in float32: %.4f", len(given_back), value)
            return value

        wanted = predictor(graph).detect(images, threshold=_SCORE)
        whole = precision(graph)
        found = search(blocks, cost, drop, tolerance.max_drop)
    return quantized(graph, model, metadata, pictures, found.given_back), found


def agreement(wanted: Sequence[Detections], found: Sequence[Detections]) -> float:
    """How far detections are found anew, 0..1: the mean, weighted by score, of the IoU with the best of the
    same class, less by as much as the scores differ."""
    import torch

    from focus_detr.structures.boxes import intersection_over_union

    total = weights = 0.0
    for one, other in zip(wanted, found, strict=True):
        if not len(one.scores):
            continue
        weights += float(one.scores.sum())
        if not len(other.scores):
            continue
        scores, others = torch.as_tensor(one.scores), torch.as_tensor(other.scores)
        alike = torch.as_tensor(one.labels)[:, None] == torch.as_tensor(other.labels)
        boxes = torch.as_tensor(one.boxes_xyxy)[:, None], torch.as_tensor(other.boxes_xyxy)[None]
        overlap = intersection_over_union(*boxes)
        best = (overlap * alike * (1 - (scores[:, None] - others).abs())).amax(1)
        total += float((best * scores).sum())
    return total / weights if weights else 1.0
