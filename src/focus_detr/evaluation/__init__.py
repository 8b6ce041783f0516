"""Evaluation: how well objects are found, and whether the token selection keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from focus_detr.lazy import imported_on_use

if TYPE_CHECKING:
    from focus_detr.evaluation.batches import evaluate_batches as evaluate_batches
    from focus_detr.evaluation.coco import CocoMetrics as CocoMetrics
    from focus_detr.evaluation.coco import coco_metrics as coco_metrics
    from focus_detr.evaluation.comparison import Comparison as Comparison
    from focus_detr.evaluation.comparison import compare as compare
    from focus_detr.evaluation.comparison import read_evaluated as read_evaluated
    from focus_detr.evaluation.report import EvaluationReport as EvaluationReport
    from focus_detr.evaluation.run import evaluate as evaluate
    from focus_detr.evaluation.tokens import ForegroundRecall as ForegroundRecall

# Imported when asked for: a command that prints a table needs no torch.
_HOME = {
    "CocoMetrics": "coco",
    "Comparison": "comparison",
    "EvaluationReport": "report",
    "ForegroundRecall": "tokens",
    "coco_metrics": "coco",
    "compare": "comparison",
    "evaluate": "run",
    "evaluate_batches": "batches",
    "read_evaluated": "comparison",
}

__all__ = [
    "CocoMetrics",
    "Comparison",
    "EvaluationReport",
    "ForegroundRecall",
    "coco_metrics",
    "compare",
    "evaluate",
    "evaluate_batches",
    "read_evaluated",
]
__getattr__ = imported_on_use(__name__, _HOME)
