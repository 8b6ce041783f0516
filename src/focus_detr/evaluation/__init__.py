"""Evaluation: how well objects are found, and whether the token selection keeps them."""

from focus_detr.evaluation.batches import evaluate_batches
from focus_detr.evaluation.coco import CocoMetrics, coco_metrics
from focus_detr.evaluation.comparison import Comparison, compare, read_evaluated
from focus_detr.evaluation.report import EvaluationReport
from focus_detr.evaluation.run import evaluate
from focus_detr.evaluation.tokens import ForegroundRecall

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
