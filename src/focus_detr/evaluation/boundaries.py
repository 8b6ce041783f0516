"""How well masks end where their objects do: boundary IoU (Cheng et al., CVPR 2021), and the worst drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from focus_detr.errors import FocusDetrError
from focus_detr.evaluation.matching import images_of, partners
from focus_detr.structures.masks import Mask

_REACH = 0.02  # of the picture's diagonal: how far from its edge a pixel is of the boundary
_MOST = 2000  # masks that are compared: of more, these say as much
_DRAWN, _COLUMNS = 12, 4


@dataclass(frozen=True)
class BoundaryError:
    """An object that was found, and where its mask is wrong.

    Attributes:
        file: of the picture.
        name: of the class; score: of the detection.
        iou: of the masks; boundary_iou: that of their boundaries, or of the masks where that is less.
        truth, found: run lengths of COCO.
    """

    file: str
    name: str
    score: float
    iou: float
    boundary_iou: float
    truth: Mapping[str, Any]
    found: Mapping[str, Any]


def boundary_errors(
    ground_truth: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]], threshold: float
) -> list[BoundaryError]:
    """Masks of the objects that are found at a score, their boxes right at an IoU of 0.5; the worst first.

    Args:
        ground_truth: a COCO json dictionary; predictions: COCO results. Without masks, they are left out.
    """
    found = [
        item for item in predictions if item["score"] >= threshold and item.get("segmentation") is not None
    ]
    truth = [item for item in ground_truth["annotations"] if not item.get("iscrowd", 0)]
    objects, answers = _by_image(truth), _by_image(found)
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    pairs = []
    for image, boxes in zip(ground_truth["images"], images_of(ground_truth, found), strict=True):
        there = objects[image["id"]]
        best = sorted(
            (item for item in answers[image["id"]] if item["category_id"] in names),
            key=lambda item: -item["score"],
        )
        for item, partner in zip(best, partners(boxes).tolist(), strict=True):
            if partner >= 0 and there[partner].get("segmentation") is not None:
                pairs.append((image, there[partner], item))
    every = -(-len(pairs) // _MOST) or 1
    errors = [_error(image, names, *pair) for image, *pair in pairs[::every]]
    return sorted(errors, key=lambda error: error.boundary_iou)


def summary_of(errors: Sequence[BoundaryError]) -> dict[str, float]:
    """How many masks were compared, and the means of their IoUs."""
    means = {
        name: float(np.mean([getattr(each, name) for each in errors])) for name in ("iou", "boundary_iou")
    }
    return {"objects": len(errors), **means}


def draw_worst(errors: Sequence[BoundaryError], file: Path) -> None:
    """A picture of the first errors, of those whose pictures can still be read; none without any."""
    from focus_detr.images.reading import read_image
    from focus_detr.pictures.boundaries import draw_boundaries
    from focus_detr.pictures.boxes import contact_sheet

    parts, captions = [], []
    for error in errors[:_DRAWN]:
        try:
            image = read_image(error.file)
        except FocusDetrError:
            continue
        parts.append(draw_boundaries(image, Mask.of_coco(error.truth), Mask.of_coco(error.found)))
        said = f"{error.name} {error.score:.2f}, {error.iou:.2f} / {error.boundary_iou:.2f}"
        captions.append(f"{said}, {Path(error.file).name}")
    if parts:
        title = (
            "Blue: the object, and what is missed. Orange: its mask, and what is too much. "
            "IoU of all / of boundaries."
        )
        sheet = contact_sheet(parts, captions, columns=min(_COLUMNS, len(parts)), cell=360, title=title)
        sheet.save(file, quality=90)


def _by_image(items: Sequence[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    groups: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for item in items:
        groups[item["image_id"]].append(item)
    return groups


def _error(
    image: Mapping[str, Any], names: Mapping[int, str], truth: Mapping[str, Any], found: Mapping[str, Any]
) -> BoundaryError:
    from faster_coco_eval.core.mask import iou, rleToBoundary

    size = (image["height"], image["width"])
    masks = [_run_lengths(item["segmentation"], size) for item in (found, truth)]
    whole = float(np.asarray(iou(masks[:1], masks[1:], [0])).reshape(()))
    edges = [rleToBoundary(mask, _REACH) for mask in masks]
    edge = float(np.asarray(iou(edges[:1], edges[1:], [0])).reshape(()))
    name, score = names[truth["category_id"]], float(found["score"])
    return BoundaryError(str(image["file_name"]), name, score, whole, min(whole, edge), masks[1], masks[0])


def _run_lengths(segmentation: Any, size: tuple[int, int]) -> dict[str, Any]:
    if isinstance(segmentation, Mapping) and isinstance(segmentation["counts"], str):
        return dict(segmentation)
    return Mask.of_coco(segmentation).to_coco(size)
