"""Evaluation: how well objects are found, and whether the token selection keeps them."""

from focus_detr.evaluation.batches import evaluate_batches
from focus_detr.evaluation.coco import CocoMetrics, coco_metrics
from focus_detr.evaluation.report import EvaluationReport
from focus_detr.evaluation.run import evaluate
from focus_detr.evaluation.tokens import ForegroundRecall

__all__ = [
    "CocoMetrics",
    "EvaluationReport",
    "ForegroundRecall",
    "coco_metrics",
    "evaluate",
    "evaluate_batches",
]
