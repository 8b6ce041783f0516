"""Detection in tiles: every tile of a picture through the model, and what was found in them merged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from PIL import Image

from focus_detr.inference.choosing import Threshold
from focus_detr.inference.merging import merge
from focus_detr.inference.progress import progress_bar
from focus_detr.inference.results import Detections
from focus_detr.inference.tiles import Tiling
from focus_detr.structures.auto_budget import BudgetLike
from focus_detr.structures.classes import Classes

if TYPE_CHECKING:
    from focus_detr.inference.predictor import Predictor


def detect_in_tiles(
    predictor: Predictor,
    picture: Image.Image,
    tiling: Tiling,
    *,
    threshold: Threshold | None = None,
    classes: Classes | None = None,
    path: str = "",
    budget: BudgetLike = None,
    decoder_layers: int | None = None,
    batch_size: int = 1,
    progress: bool = False,
) -> Detections:
    """The objects of an upright RGB picture, each once and whole; see `Tiling` and `merge`.

    ``batch_size`` tiles go through the model together, which changes speed and not results: they are of one
    size, so that none is padded. The other arguments are those of `Predictor.predict`; with ``budget="auto"``
    each tile has its own, and the picture says their mean.
    """
    levels = tiling.levels(picture.size, getattr(predictor.processor, "size_of", None))
    tiles = [tile for level in levels for tile in level]
    found: list[Detections] = []
    hidden = not progress or len(tiles) == 1
    with progress_bar("tile", {"total": len(tiles), "disable": hidden, "leave": False}) as update:
        for level in levels:
            for begin in range(0, len(level), batch_size):
                batch = level[begin : begin + batch_size]
                found += predictor.detect(
                    [tile.cut_from(picture) for tile in batch],
                    threshold=threshold,
                    classes=classes,
                    budget=budget,
                    decoder_layers=decoder_layers,
                    sizes=[(tile.size[1], tile.size[0]) for tile in batch],
                )
                update(len(batch))
    placed = [
        each.instances.transform(picture.size, shift=tile.box[:2])
        for each, tile in zip(found, tiles, strict=True)
    ]
    merged = merge(tiles, placed)
    if len(tiles) > 1:
        merged = replace(merged, queries=None)  # each tile has queries of its own
    chosen = [each.budget for each in found if each.budget is not None]
    return replace(
        found[0],
        path=path,
        instances=merged,
        image_size=(picture.height, picture.width),
        budget=sum(chosen) / len(chosen) if chosen else None,
    )
