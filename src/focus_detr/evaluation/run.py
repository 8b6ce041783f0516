"""evaluate(): score a model on one split of a data set."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from focus_detr.disk import explained_disk
from focus_detr.errors import FocusDetrError
from focus_detr.evaluation.batches import restrict
from focus_detr.evaluation.boundaries import boundary_errors
from focus_detr.evaluation.coco import coco_metrics
from focus_detr.evaluation.curves import confusion_matrix, f1_curves
from focus_detr.evaluation.operating_point import operating_points
from focus_detr.evaluation.report import EvaluationReport, confusion_threshold
from focus_detr.folders import writable_folder
from focus_detr.structures.auto_budget import BudgetLike
from focus_detr.structures.classes import Classes, new_names, refuse_unknown, renamed_among

if TYPE_CHECKING:
    from focus_detr.data import DetectionDataset
    from focus_detr.data.records import Sample
    from focus_detr.inference import BadImage, Detections, Predictor
    from focus_detr.inference.choosing import Threshold

logger = logging.getLogger(__name__)


def evaluate(
    model: Predictor | str | os.PathLike[str],
    data: DetectionDataset | str | os.PathLike[str],
    *,
    split: str | None = "test",
    output: str | os.PathLike[str] | None = None,
    batch_size: int = 1,
    budget: BudgetLike = None,
    decoder_layers: int | None = None,
    setting: str | None = None,
    tile: int | str | None = None,
    overlap: float | None = None,
    threshold: Threshold | None = None,
    classes: Classes | None = None,
    device: str | None = None,
    progress: bool = True,
    crowds: str = "regions",
    trust_plugins: bool = False,
    watch: Callable[[Any, list[dict[str, Any]]], object] | None = None,
) -> EvaluationReport:
    """Score a model on one split of a data set, by COCO's protocol; its masks, too, where both have them.

    Args:
        model: a predictor, or the name or folder of a model.
        data: a data set, or the path of one (`load_dataset`), whose classes are then matched to the model's
            by name.
        split: which split of the path to score; never another in its stead. A data set is scored as it is.
        output: folder for the report's files; see `EvaluationReport.save`.
        batch_size: images computed at once; changes speed, not results.
        budget: mean share of tokens that an encoder layer works on, or "auto" (see `AutoBudget`); the model's
            own when not given.
        decoder_layers: run so many of the model's decoder layers; what it is set to when not given, or all.
        setting: name of one of the model's settings (`Predictor.at`); what is said beside it goes before.
        tile, overlap: look at images in tiles, as `Predictor.predict` does; `batch_size` is then that of
            tiles, and what the token selection keeps is not measured.
        threshold: also count what is right and wrong at this score, or at those by class, as
            `Predictor.predict` takes them, and confusions there; average precision is over all scores.
        classes: score these alone, by name (or label of the model), or what each is reported as, as in
            `{"car": "vehicle", "truck": "vehicle"}`: of the model's answers as in `Predictor.predict`, and of
            the data set's objects alike, whichever of the two has the old names or the new one.
        device: for a model given by name; by default a GPU where there is one.
        crowds: of a path, what annotations of COCO with `iscrowd` 1 are (`load_dataset`).
        trust_plugins: of a model given by name, import the modules it names, which runs their code.
        watch: called with the model's output for each batch, and the labels (see `ForegroundRecall.update`).

    An image that cannot be read, here or when the data set was loaded, is counted and left
    out, its objects with it.
    """
    from focus_detr.data import load_dataset
    from focus_detr.data.dataset import DetectionDataset
    from focus_detr.evaluation.tokens import ForegroundRecall
    from focus_detr.inference import BadImage, Predictor
    from focus_detr.inference.tiled import detect_in_tiles
    from focus_detr.inference.tiles import Tiling

    tiling = Tiling.of(tile, overlap)
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise FocusDetrError(f"batch_size={batch_size!r}: must be a whole number, 1 or more")
    if output is not None:
        output = writable_folder(output)
    predictor = (
        model
        if isinstance(model, Predictor)
        else Predictor.from_pretrained(model, device=device, trust_plugins=trust_plugins)
    )
    if setting is not None:
        predictor = predictor.at(setting)
    names = list(predictor.class_names)
    if isinstance(data, DetectionDataset):
        dataset = data
    else:
        dataset = load_dataset(
            Path(data),
            split,
            classes=names if classes is None else None,
            crowds=crowds,
            masks=predictor.gives_masks,
        )
    budget = predictor.accept_budget(budget)
    layers = predictor.accept_decoder_layers(decoder_layers)
    lowest = None if threshold is None else predictor.threshold_by_label(threshold)
    reported = None
    if classes is not None:
        dataset, reported = _merged(dataset, names, classes)
        names = dataset.class_names
    _check_classes(names, dataset.class_names)

    unreadable = [
        BadImage(problem.file, problem.message)
        for problem in dataset.problems
        if problem.kind == "unreadable-image"
    ]
    predictions: list[dict[str, Any]] = []
    reaching: list[dict[str, Any]] = []  # the threshold that is asked for
    ids = dict(zip(dataset.class_names, dataset.category_ids, strict=True))

    def in_coco(sample: Sample, found: Detections) -> list[dict[str, Any]]:
        return found.to_coco(sample.image_id, [ids.get(name, -1) for name in found.names])

    recall = ForegroundRecall()
    budgets: Counter[float] = Counter()
    for samples in _batches(dataset, 1 if tiling else batch_size, unreadable, progress):
        images = [sample.image for sample in samples]
        if tiling is not None:
            found = [
                detect_in_tiles(
                    predictor,
                    image,
                    tiling,
                    threshold=0.0,
                    budget=budget,
                    decoder_layers=layers,
                    batch_size=batch_size,
                )
                for image in images
            ]
        else:
            outputs = predictor.run(images, budget, decoder_layers=layers)
            found = predictor.decode(outputs, images, threshold=0.0)
            if getattr(outputs, "plan", None) is not None:
                labels = [_label(sample) for sample in samples]
                recall.update(outputs, labels)
                budgets.update(outputs.plan.budgets or ())
                if watch is not None:
                    watch(outputs, labels)
        for sample, each in zip(samples, found, strict=True):
            predictions += in_coco(sample, each.filter(classes=reported))
            if lowest is not None:
                reaching += in_coco(sample, each.filter(lowest, reported))

    lost = {bad.path for bad in unreadable}
    scored = {record.image_id for record in dataset.records if str(record.path) not in lost}
    ground_truth = restrict(dataset.to_coco(), scored) if lost else dataset.to_coco()
    curves = f1_curves(ground_truth, predictions)
    answers, confident = (predictions, confusion_threshold(curves)) if lowest is None else (reaching, 0.0)
    masks, boundaries = None, []
    if any("segmentation" in item for item in ground_truth["annotations"]) and predictor.gives_masks:
        masks = coco_metrics(ground_truth, predictions, masks=True)
        boundaries = boundary_errors(ground_truth, answers, confident)
    report = EvaluationReport(
        data=Path(dataset.name).name,
        split=dataset.split,
        metrics=coco_metrics(ground_truth, predictions),
        f1=curves,
        confusion=confusion_matrix(ground_truth, answers, confident),
        tokens=recall.compute(),
        unreadable=unreadable,
        predictions=predictions,
        max_detections=predictor.max_detections,
        ground_truth=ground_truth,
        budgets=dict(sorted(budgets.items())),
        masks=masks,
        boundaries=boundaries,
        at_threshold=None if lowest is None else operating_points(ground_truth, reaching),
    )
    if output is not None:
        with explained_disk(output):
            report.save(output)
    return report


def _merged(
    dataset: DetectionDataset, names: Sequence[str], classes: Classes
) -> tuple[DetectionDataset, dict[str | int, str]]:
    """The data set with ``classes``, and what each of the model's is reported as."""
    from focus_detr.data.merging import merge_classes

    renamed = new_names(classes, names)
    refuse_unknown(renamed, [*names, *dataset.class_names], "the model and the data set have")
    answers, truth = renamed_among(renamed, names), renamed_among(renamed, dataset.class_names)
    there = list(dict.fromkeys(answers[name] for name in names if name in answers))
    refuse_unknown(renamed.values(), there, "of what the model finds, there is")
    reported: dict[str | int, str] = {old: new for old, new in answers.items()}
    return merge_classes(dataset, truth, there), reported


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
    size = torch.tensor([height, width])
    return {"boxes": boxes_cxcywh, "orig_size": size, "image_id": sample.image_id}


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
