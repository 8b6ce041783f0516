"""examine_data(): all that can be told of a data set, with a size and a model where they are given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from focus_detr.data.doctor import Examination, Example, Finding, examine
from focus_detr.doctor.labels import label_findings
from focus_detr.doctor.tokens import token_findings
from focus_detr.errors import FocusDetrError
from focus_detr.explaining.recall import DataExplanation, explain_data
from focus_detr.printable import percent

if TYPE_CHECKING:
    from focus_detr.inference import Predictor

_ENOUGH = 0.95


def examine_data(
    data: str | Path,
    split: str | None = None,
    *,
    crowds: str = "regions",
    size: tuple[int, int] | None = None,
    predictor: Predictor | None = None,
    progress: bool = False,
) -> Examination:
    """See `examine`; and which objects are too small for tokens at ``size`` (height, width), which labels a
    trained model (``predictor``) disagrees with, and which objects its own budget loses.

    Raises:
        FocusDetrError: there is no data set.
    """
    found = examine(data, split, crowds=crowds)
    if size is not None:
        findings, found.facts["tokens"] = token_findings(found.subject, size)
        found.add(findings)
    if predictor is not None:
        found.add(label_findings(found.subject, predictor, progress))
        _ask_of_budgets(found, predictor, progress)
    return found


def _ask_of_budgets(found: Examination, predictor: Predictor, progress: bool) -> None:
    recalls = {}
    for split, dataset in found.datasets.items():
        try:
            explained = explain_data(predictor, dataset, progress=progress)
        except FocusDetrError as error:  # one that keeps all tokens, was exported, or has nothing to look at
            found.facts["recall_not_measured"] = str(error)
            continue
        recalls[split] = explained.to_dict()
        found.add(_lost(split, explained))
    if recalls:
        found.facts["recall"] = recalls


def _lost(split: str, explained: DataExplanation) -> list[Finding]:
    own = explained.own
    lost = [each for each in explained.objects if not each.kept[own]]
    if not lost:
        return []
    share = 1 - len(lost) / len(explained.objects)
    names = explained.dataset.class_names
    examples = [
        Example(each.path, each.box_xyxy, f"{names[each.label]}, {each.size}")
        for each in sorted(lost, key=lambda each: not each.reachable)[:12]
    ]
    return [
        Finding(
            "budget-loses-objects",
            "warning" if share < _ENOUGH else "note",
            str(lost[0].path),
            f"at the model's own budget, {explained.budgets[own]:.2f}, {percent(share)} of "
            f"{len(explained.objects)} objects have a token in the first encoder layer",
            "`focus-detr explain` shows all budgets; larger ones, or a larger size, keep more.",
            split,
            examples=tuple(examples),
        )
    ]
