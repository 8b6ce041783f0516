"""``val_share``: pictures of the training split that a run holds back to be evaluated on.

Their list is COCO json in a folder of the run, which so is a data set with the split "validation".
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from focus_detr.errors import FocusDetrError, UnknownSplitError
from focus_detr.folders import whole_file
from focus_detr.training.recipe import Recipe

if TYPE_CHECKING:
    from focus_detr.data import DetectionDataset

logger = logging.getLogger(__name__)

FILE = Path("validation") / "annotations.json"
# Beyond it, whether pictures are copies of one another is not worth reading them for.
_FEW_IMAGES = 20_000


def refuse_named_split(data: Any, eval_data: Any, recipe: Recipe) -> None:
    """Raise `FocusDetrError` where there are pictures to evaluate on already."""
    from focus_detr.data import DetectionDataset
    from focus_detr.data.formats.recognise import find_split

    if eval_data is not None:
        raise FocusDetrError(f"val_share={recipe.val_share}: not beside eval_data; leave one of them out")
    if recipe.eval_split is None or isinstance(data, DetectionDataset):
        return
    try:
        named = find_split(data, recipe.eval_split)
    except UnknownSplitError:
        return
    raise FocusDetrError(
        f"val_share={recipe.val_share}: {data} has the split {named!r} to evaluate on (eval_split); leave "
        "val_share out, or say --set eval_split=null to hold pictures of train_split back all the same"
    )


def hold_back(
    dataset: DetectionDataset, share: float, seed: int, run: Path | None
) -> tuple[DetectionDataset, DetectionDataset]:
    """What to learn and what to evaluate on; where ``run`` has a list already, by that.

    Raises:
        FocusDetrError: the list is damaged, or the data cannot be divided.
    """
    from focus_detr.data.dividing import divide

    listed = _read(run / FILE) if run is not None and (run / FILE).exists() else None
    if listed is None:
        held = set(divide(dataset, share, seed))
    else:
        held = {
            position
            for position, record in enumerate(dataset.records)
            if listed.get(record.image_id) == record.path.name
        }
    kept = [record for position, record in enumerate(dataset.records) if position not in held]
    validation = [record for position, record in enumerate(dataset.records) if position in held]
    if not kept or not validation:
        raise FocusDetrError(
            f"{dataset.name}: has none of the pictures that {run} holds back ({FILE}), or no others; resume "
            "with the run's own data"
        )
    return dataset.with_records(kept), dataset.with_records(validation, f"{dataset.split} (held back)")


def write_held_back(run: Path, dataset: DetectionDataset) -> None:
    """Write the list that `hold_back` goes by."""
    content = dataset.to_coco()
    for image in content["images"]:
        image["file_name"] = os.path.abspath(image["file_name"])
    file = run / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as stream:
        stream.write(json.dumps(content).encode())
    logger.info(
        "%s pictures are held back for validation, listed in %s; to measure on them later: "
        "focus-detr evaluate %s %s --split val",
        len(dataset),
        file,
        run / "best",
        run,
    )


def _read(file: Path) -> dict[int, str]:
    """Names of the pictures by image id."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {image["id"]: os.path.basename(image["file_name"]) for image in content["images"]}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise FocusDetrError(
            f"{file}: cannot be read as the list of the pictures held back ({error}); delete it, and they "
            "are chosen anew by the run's seed, the same ones where the data are the same"
        ) from error


def warn_of_learned(dataset: DetectionDataset, eval_dataset: DetectionDataset) -> None:
    """Say so where a run is evaluated on pictures that it learns from."""
    from focus_detr.data.same_files import same_files

    paths = [record.path for each in (dataset, eval_dataset) for record in each.records]
    learned = len(dataset)
    shared = sum(
        sum(position >= learned for position in group)
        for group in same_files(paths, contents=len(paths) <= _FEW_IMAGES)
        if group[0] < learned
    )
    if shared:
        logger.warning(
            "the run is evaluated on what it learns from: %s of the %s pictures of %r are in %r, too. Its AP "
            "tells how well they are remembered, not how well others are detected, and the best model is "
            "chosen by it. Evaluate on other pictures: eval_split, --eval-data or --val-share",
            shared,
            len(eval_dataset),
            eval_dataset.split,
            dataset.split,
        )
