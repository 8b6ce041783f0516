"""evaluate(): how good a model is on one split of a data set, as numbers, tables and figures."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from focus_detr.errors import FocusDetrError
from focus_detr.evaluation import plots
from focus_detr.evaluation.batches import restrict
from focus_detr.evaluation.coco import CocoMetrics, coco_metrics
from focus_detr.evaluation.curves import F1Curve, confusion_matrix, f1_curves
from focus_detr.evaluation.tables import Cell, table

if TYPE_CHECKING:
    from focus_detr.data import DetectionDataset
    from focus_detr.data.records import Sample
    from focus_detr.inference import BadImage, Predictor

logger = logging.getLogger(__name__)

CONFUSION_THRESHOLD = 0.5
"""Score that confusions are counted from where no threshold is better than another."""


@dataclass(frozen=True)
class EvaluationReport:
    """What `evaluate` found.

    Attributes:
        data, split: name of the data set, and the split that was scored.
        metrics: COCO's measures, in all and per class.
        f1: F1 curves over the score threshold: all classes pooled, then each class.
        confusion: (k+1,k+1) counts at the threshold of the best pooled F1; background is last.
        tokens: foreground recall per encoder layer (`ForegroundRecall.compute`); empty for a dense
            encoder or an exported file.
        unreadable: images that could not be read and were left out, with the reasons.
        predictions: COCO results, down to score 0.
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

    @property
    def threshold(self) -> float | None:
        """The score threshold of the highest F1, all classes pooled; None where nothing is right."""
        return self.f1[0].best_threshold

    def to_dict(self) -> dict[str, Any]:
        """All but predictions and curves as plain values; None where there was nothing to measure."""
        classes = zip(self.metrics.per_class, self.f1[1:], strict=True)
        return _plain(
            {
                "data": self.data,
                "split": self.split,
                "images": self.metrics.images,
                "objects": self.metrics.objects,
                "unreadable_images": [bad.to_dict() for bad in self.unreadable],
                "detections_per_image": self.max_detections,
                "metrics": self.metrics.summary,
                "best_f1": _best_f1(self.f1[0]),
                "classes": [{**asdict(item), "best_f1": _best_f1(curve)} for item, curve in classes],
                "confusion_matrix": self.confusion.tolist(),
                "foreground_recall": self.tokens or None,
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
        if self.tokens:
            parts.append(self._token_table())
        best = self.f1[0].best
        if best is not None:
            f1 = self.f1[0].f1[best]
            parts.append(f"Highest F1 over all classes: {f1:.3f} at a score of {self.threshold:.2f}.")
        parts.append(
            f"The model gives its {self.max_detections} best detections of an image. As COCO defines it, "
            "average precision considers\nthe best 100 of each class and image; AR300 the best 300."
        )
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

    def _token_table(self) -> str:
        layers = len(self.tokens["recall"]["all"])
        header = ("objects with a kept token", "objects", *(f"layer {n + 1}" for n in range(layers)))
        rows = [
            [size, self.tokens["objects"][size], *values] for size, values in self.tokens["recall"].items()
        ]
        return table(header, rows)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write metrics.json, per_class.csv, predictions.json, report.txt and the figures."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content = self.to_dict()
        (folder / "metrics.json").write_text(
            json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8"
        )
        (folder / "predictions.json").write_text(json.dumps(self.predictions), encoding="utf-8")
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
        plots.plot_confusion_matrix(
            self.confusion, names, _confusion_threshold(self.f1), folder / "confusion_matrix.png"
        )
        return folder


def evaluate(
    model: Predictor | str | os.PathLike[str],
    data: DetectionDataset | str | os.PathLike[str],
    *,
    split: str | None = "test",
    output: str | os.PathLike[str] | None = None,
    batch_size: int = 1,
    device: str | None = None,
    progress: bool = True,
) -> EvaluationReport:
    """Score a model on one split of a data set, by COCO's protocol.

    Args:
        model: a predictor, or the name or folder of a model.
        data: a data set, or the path of one (`load_dataset`), whose classes are then matched to the model's
            by name.
        split: which split of the path to score; never another in its stead. A data set is scored as it is.
        output: folder for the report's files; see `EvaluationReport.save`.
        batch_size: images computed at once; changes speed, not results.
        device: for a model given by name; by default a GPU where there is one.

    An image that cannot be read, here or when the data set was loaded, is counted and left
    out, its objects with it.
    """
    from focus_detr.data import load_dataset
    from focus_detr.data.dataset import DetectionDataset
    from focus_detr.evaluation.tokens import ForegroundRecall
    from focus_detr.inference import BadImage, Predictor

    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise FocusDetrError(f"batch_size={batch_size!r}: must be a whole number, 1 or more")
    predictor = (
        model if isinstance(model, Predictor) else Predictor.from_pretrained(Path(model), device=device)
    )
    if isinstance(data, DetectionDataset):
        dataset = data
    else:
        dataset = load_dataset(Path(data), split, classes=list(predictor.class_names))
    _check_classes(predictor.class_names, dataset.class_names)

    unreadable = [
        BadImage(problem.file, problem.message)
        for problem in dataset.problems
        if problem.kind == "unreadable-image"
    ]
    predictions: list[dict[str, Any]] = []
    recall = ForegroundRecall()
    for samples in _batches(dataset, batch_size, unreadable, progress):
        images = [sample.image for sample in samples]
        outputs = predictor.run(images)
        for sample, found in zip(samples, predictor.decode(outputs, images, threshold=0.0), strict=True):
            predictions += found.to_coco(sample.image_id, dataset.category_ids)
        if getattr(outputs, "plan", None) is not None:
            recall.update(outputs, [_label(sample) for sample in samples])

    lost = {bad.path for bad in unreadable}
    scored = {record.image_id for record in dataset.records if str(record.path) not in lost}
    ground_truth = restrict(dataset.to_coco(), scored) if lost else dataset.to_coco()
    curves = f1_curves(ground_truth, predictions)
    report = EvaluationReport(
        data=Path(dataset.name).name,
        split=dataset.split,
        metrics=coco_metrics(ground_truth, predictions),
        f1=curves,
        confusion=confusion_matrix(ground_truth, predictions, _confusion_threshold(curves)),
        tokens=recall.compute(),
        unreadable=unreadable,
        predictions=predictions,
        max_detections=predictor.max_detections,
    )
    if output is not None:
        report.save(output)
    return report


def _batches(
    dataset: DetectionDataset, size: int, unreadable: list[BadImage], progress: bool
) -> Iterator[list[Sample]]:
    from tqdm import tqdm

    from focus_detr.inference import BadImage

    group: list[Sample] = []
    with tqdm(range(len(dataset)), f"scoring {dataset.split!r}", unit="image", disable=not progress) as bar:
        for index in bar:
            try:
                group.append(dataset.read(index))
            except FocusDetrError as error:
                path = str(dataset.records[index].path)
                if all(bad.path != path for bad in unreadable):
                    unreadable.append(BadImage(path, str(error).removeprefix(f"{path}: ")))
                logger.warning("left out: %s", error)
            if len(group) == size:
                yield group
                group = []
    if group:
        yield group


def _label(sample: Sample) -> dict[str, Any]:
    import torch

    width, height = sample.image.size
    boxes = torch.from_numpy(sample.boxes_xyxy) / torch.tensor([width, height, width, height])
    corner, opposite = boxes.split(2, dim=-1)
    boxes_cxcywh = torch.cat([(corner + opposite) / 2, opposite - corner], -1)
    return {"boxes": boxes_cxcywh, "orig_size": torch.tensor([height, width])}


def _check_classes(model: Sequence[str], data: Sequence[str]) -> None:
    if list(model) == list(data):
        return
    unknown = [name for name in data if name not in model]
    reason = (
        f"the model does not know {', '.join(map(repr, unknown[:5]))}" if unknown else "their order differs"
    )
    raise FocusDetrError(
        f"the classes of the data set are not those of the model: {reason}; load it by "
        "load_dataset(path, split, classes=predictor.class_names), which matches them by name"
    )


def _confusion_threshold(curves: Sequence[F1Curve]) -> float:
    best = curves[0].best_threshold
    return CONFUSION_THRESHOLD if best is None else best


def _best_f1(curve: F1Curve) -> dict[str, float | None] | None:
    if curve.best is None:
        return None
    measures = {"f1": curve.f1, "precision": curve.precision, "recall": curve.recall}
    return {"threshold": curve.best_threshold, **{name: float(v[curve.best]) for name, v in measures.items()}}


def _plain(value: Any) -> Any:
    # JSON has no NaN.
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
