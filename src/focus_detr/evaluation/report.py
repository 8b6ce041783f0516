"""EvaluationReport: how good a model is on one split of a data set, as numbers, tables and figures."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from focus_detr.evaluation import plots
from focus_detr.evaluation.boundaries import BoundaryError, draw_worst, summary_of
from focus_detr.evaluation.coco import CocoMetrics
from focus_detr.evaluation.curves import F1Curve
from focus_detr.evaluation.operating_point import OperatingPoint
from focus_detr.evaluation.tables import Cell, table
from focus_detr.folders import whole_files
from focus_detr.printable import finite

if TYPE_CHECKING:
    from focus_detr.inference import BadImage

CONFUSION_THRESHOLD = 0.5
"""Score that confusions are counted from where no threshold is better than another."""


@dataclass(frozen=True)
class EvaluationReport:
    """What `evaluate` found.

    Attributes:
        data, split: name of the data set, and the split that was scored.
        metrics: COCO's measures, in all and per class.
        f1: F1 curves over the score threshold: all classes pooled, then each class.
        confusion: (k+1,k+1) counts at the threshold asked for, or of the best pooled F1; background is last.
        tokens: foreground recall per encoder layer (`ForegroundRecall.compute`); empty for a dense
            encoder or an exported file.
        unreadable: images that could not be read and were left out, with the reasons.
        predictions: COCO results, down to score 0.
        ground_truth: COCO json dictionary of what was to be found.
        budgets: images by the budget that was chosen for them; empty where the call said one.
        masks: COCO's measures of masks, where the model gives them and the data set has them.
        boundaries: where the masks of objects that were found are wrong, the worst first.
        at_threshold: counts at the threshold asked for, all classes pooled, then each; None without one.
    """

    data: str
    split: str
    metrics: CocoMetrics
    f1: list[F1Curve]
    confusion: np.ndarray = field(repr=False)
    tokens: dict[str, Any]
    unreadable: list[BadImage]
    predictions: list[dict[str, Any]] = field(repr=False)
    max_detections: int
    ground_truth: dict[str, Any] = field(repr=False)
    budgets: dict[float, int] = field(default_factory=dict)
    masks: CocoMetrics | None = None
    boundaries: list[BoundaryError] = field(default_factory=list, repr=False)
    at_threshold: list[OperatingPoint] | None = None

    @property
    def threshold(self) -> float | None:
        """The score threshold of the highest F1, all classes pooled; None where nothing is right."""
        return self.f1[0].best_threshold

    def to_dict(self) -> dict[str, Any]:
        """All but predictions and curves as plain values; None where there was nothing to measure."""
        classes = zip(self.metrics.per_class, self.f1[1:], strict=True)
        return finite(
            {
                "data": self.data,
                "split": self.split,
                "images": self.metrics.images,
                "objects": self.metrics.objects,
                "unreadable_images": [bad.to_dict() for bad in self.unreadable],
                "detections_per_image": self.max_detections,
                "metrics": self.metrics.summary,
                **({} if self.masks is None else {"mask_metrics": self.masks.summary}),
                **({"mask_boundaries": summary_of(self.boundaries)} if self.boundaries else {}),
                "best_f1": _best_f1(self.f1[0]),
                "at_threshold": self.at_threshold and [point.to_dict() for point in self.at_threshold],
                "classes": [{**asdict(item), "best_f1": _best_f1(curve)} for item, curve in classes],
                "confusion_matrix": self.confusion.tolist(),
                "foreground_recall": self.tokens or None,
                "budgets": {f"{budget:g}": count for budget, count in self.budgets.items()} or None,
            }
        )

    def summary(self) -> str:
        """The report as text, for people."""
        found, measures = self.metrics, self.metrics.summary
        precision = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
        recall = ("AR1", "AR10", "AR100", "AR300", "AR_small", "AR_medium", "AR_large")
        parts = [
            f"{self.data}, split {self.split!r}: {found.images} images, {found.objects} objects",
            table(precision, [[measures[name] for name in precision]]),
            table(recall, [[measures[name] for name in recall]]),
            self._class_table(),
        ]
        if self.masks is not None:
            parts.insert(3, "Masks:\n" + table(precision, [[self.masks.summary[name] for name in precision]]))
        if self.boundaries:
            said = summary_of(self.boundaries)
            parts.append(
                f"Masks of {said['objects']} objects that are found: IoU {said['iou']:.3f} on average, "
                f"{said['boundary_iou']:.3f} along their boundaries; boundaries.jpg shows the worst."
            )
        if self.tokens:
            parts.append(self._token_table())
        best = self.f1[0].best
        if best is not None:
            f1 = self.f1[0].f1[best]
            parts.append(f"Highest F1 over all classes: {f1:.3f} at a score of {self.threshold:.2f}.")
        if self.at_threshold is not None:
            parts.append("At the scores asked for:\n" + self._threshold_table(self.at_threshold))
        parts.append(
            f"The model gives its {self.max_detections} best detections of an image. As COCO defines it, "
            "average precision considers\nthe best 100 of each class and image; AR300 the best 300."
        )
        if self.budgets:
            mean = sum(budget * count for budget, count in self.budgets.items()) / sum(self.budgets.values())
            each = ", ".join(f"{budget:g} in {count}" for budget, count in self.budgets.items())
            parts.append(f"Budgets chosen: {mean:.3f} on average; {each} images.")
        if self.unreadable:
            parts.append(
                f"{len(self.unreadable)} images could not be read and were left out, the first: "
                f"{self.unreadable[0].path}: {self.unreadable[0].reason}"
            )
        return "\n\n".join(parts)

    def _class_table(self) -> str:
        rows: list[list[Cell]] = [
            [
                *(item.name, item.images, item.objects, item.ap, item.ap50, item.ap75, item.ar100),
                None if curve.best is None else float(curve.f1[curve.best]),
                curve.best_threshold,
            ]
            for item, curve in zip(self.metrics.per_class, self.f1[1:], strict=True)
        ]
        header = ("class", "images", "objects", "AP", "AP50", "AP75", "AR100", "best F1", "at score")
        return table(header, rows)

    def _threshold_table(self, points: Sequence[OperatingPoint]) -> str:
        header = ("class", "objects", "found", "right", "precision", "recall", "F1")
        rows: list[list[Cell]] = [
            [*(each.name, each.objects, each.found, each.right), each.precision, each.recall, each.f1]
            for each in [*points[1:], points[0]]
        ]
        return table(header, rows)

    def _token_table(self) -> str:
        layers = len(self.tokens["recall"]["all"])
        header = ("objects with a kept token", "objects", *(f"layer {n + 1}" for n in range(layers)))
        rows = [
            [size, self.tokens["objects"][size], *values] for size, values in self.tokens["recall"].items()
        ]
        return table(header, rows)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write metrics.json, per_class.csv, predictions.json, ground_truth.json, report.txt, the figures.

        Of masks also boundaries.jpg: those that are most wrong along their boundaries.
        """
        folder = Path(folder)
        with whole_files(folder) as writing:
            self._write(writing)
        return folder

    def _write(self, folder: Path) -> None:
        content = self.to_dict()
        (folder / "metrics.json").write_text(
            json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8"
        )
        (folder / "predictions.json").write_text(json.dumps(self.predictions), encoding="utf-8")
        (folder / "ground_truth.json").write_text(json.dumps(self.ground_truth), encoding="utf-8")
        (folder / "report.txt").write_text(self.summary() + "\n", encoding="utf-8")
        with open(folder / "per_class.csv", "w", newline="", encoding="utf-8") as stream:
            columns = ["name", "images", "objects", "ap", "ap50", "ap75", "ar100", "best_f1", "threshold"]
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            for item in content["classes"]:
                best = item.pop("best_f1") or {}
                writer.writerow({**item, "best_f1": best.get("f1"), "threshold": best.get("threshold")})
        names = [item.name for item in self.metrics.per_class]
        plots.plot_precision_recall(self.metrics, folder / "precision_recall.png")
        plots.plot_f1(self.f1, folder / "f1.png")
        draw_worst(self.boundaries, folder / "boundaries.jpg")
        lowest = confusion_threshold(self.f1) if self.at_threshold is None else None
        plots.plot_confusion_matrix(self.confusion, names, lowest, folder / "confusion_matrix.png")


def confusion_threshold(curves: Sequence[F1Curve]) -> float:
    """The score that confusions are counted from: that of the best pooled F1, where there is one."""
    best = curves[0].best_threshold
    return CONFUSION_THRESHOLD if best is None else best


def _best_f1(curve: F1Curve) -> dict[str, float | None] | None:
    if curve.best is None:
        return None
    measures = {"f1": curve.f1, "precision": curve.precision, "recall": curve.recall}
    return {"threshold": curve.best_threshold, **{name: float(v[curve.best]) for name, v in measures.items()}}
