"""load_dataset: a folder (or its json or yaml file) in one of four formats -> DetectionDataset."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

from focus_detr.data.cleaning import ImageCheck, clean_records
from focus_detr.data.dataset import DetectionDataset
from focus_detr.data.formats import coco, shards, voc, yolo, yolo_plain
from focus_detr.data.formats.classes import (
    ClassNames,
    category_ids,
    check_overlap,
    given_names,
    labels_by_category,
    shared_names,
)
from focus_detr.data.formats.reading import UnreadableFileError
from focus_detr.data.formats.searching import folders_in, odd_files_in, refuse_system_folder
from focus_detr.data.formats.source import ProblemLog, Source
from focus_detr.data.masks import count_masks
from focus_detr.data.records import UNNUMBERED, Problem, Record
from focus_detr.errors import FocusDetrError, UnknownSplitError
from focus_detr.folders import from_home
from focus_detr.printable import listed

logger = logging.getLogger(__name__)

Format = Literal["coco", "yolo", "voc", "shards"]
OnProblem = Literal["warn", "ignore", "raise"] | Callable[[Problem], None]
_CROWDS = ("regions", "objects")

# YOLO's data.yaml first: it is explicit, while a folder may hold stray json. Last what only labels tell.
_READERS: tuple[tuple[Format, Any], ...] = (
    ("yolo", yolo),
    ("coco", coco),
    ("voc", voc),
    ("shards", shards),
    ("yolo", yolo_plain),
)
# Reading a header takes about half a millisecond: larger data sets are checked on request.
_FEW_IMAGES = 20_000
_VALIDATION_NAMES = {"val", "valid", "validation"}


def load_dataset(
    path: str | Path,
    split: str | None = "train",
    format: Format | None = None,
    classes: ClassNames | None = None,
    on_problem: OnProblem = "warn",
    check_images: ImageCheck | None = None,
    crowds: str = "regions",
    masks: bool | Literal["where given"] = False,
) -> DetectionDataset:
    """Load one split of a COCO, YOLO or Pascal VOC data set, or of one in shards.

    Args:
        path: the data set's folder, a COCO json or YOLO yaml file, or tar files (``train-{000..015}.tar``).
        split: a split's name; several joined by "+" ("train+val"); None for the only one there is. "val",
            "valid" and "validation" mean the same, "train" also finds "train2017".
        format: "coco", "yolo", "voc" or "shards"; recognised when not given.
        classes: names by label (a list, or a model's `id2label`). The data set's classes are matched to
            them by name, so that labels mean what the model means; boxes of other classes are left out, with
            a report.
        on_problem: "warn" logs the summary, "ignore" is silent, "raise" refuses a data set with any problem;
            a callable gets each `Problem`. All of them are in `.problems` in any case.
        check_images: "headers" reads every image's header (unreadable and mis-sized files are found now),
            "decode" all pixels (cut-short files too), "sizes" the headers of images whose size is not in the
            annotations, "none" leaves it to the first use. Not given: "headers" for up to 20,000 images,
            "sizes" for more. Missing files are always found now.
        crowds: what annotations of COCO with `iscrowd` 1 are: "regions" that hold many objects, neither
            learned nor scored, or "objects" like all others (some tools write 1 for every brush stroke).
        masks: read the masks of objects, too: polygons and run lengths of COCO, polygons of YOLO. Objects
            may lack theirs, all of them too, which is reported, unless this is "where given".

    Raises:
        FocusDetrError: no such data set, split or class; files that cannot be read as the format they claim.
    """
    root = from_home(Path(path))
    _check_arguments(root, format, on_problem, check_images)
    found_format, reader, splits = _find(root, format)
    handles = _resolve(split, splits, root)
    log = ProblemLog(on_problem if callable(on_problem) else None)
    sources = [reader.read_split(handle, log, bool(masks)) for handle in handles.values()]
    _settle_crowds(sources, crowds, root, log)
    names = given_names(classes) if classes is not None else shared_names(sources, root)
    check_overlap(names, sources, root)
    few = sum(len(source.images) for source in sources) <= _FEW_IMAGES
    check = check_images or ("headers" if few else "sizes")
    records = [
        record
        for source in sources
        for record in clean_records(source, labels_by_category(source, names), check, log)
    ]
    if not records:
        first = " It lists none: add some, or name another split."
        if log.problems:
            first = f" The first of {len(log.problems)} problems: {log.problems[0]}"
        raise FocusDetrError(f"{root}: the split {'+'.join(handles)!r} has no usable image.{first}")
    _number_images(records)
    if masks is True:
        count_masks(records, log)
    dataset = DetectionDataset(
        records,
        names,
        category_ids(sources, names),
        log.problems,
        str(root),
        "+".join(handles),
        found_format,
    )
    _speak(dataset, on_problem)
    return dataset


def list_splits(path: str | Path, format: Format | None = None) -> list[str]:
    """Names of the splits `load_dataset` can load from `path`."""
    root = from_home(Path(path))
    _check_arguments(root, format, "ignore", None)
    return list(_find(root, format)[2])


def find_split(path: str | Path, split: str) -> str:
    """The name of the split that `load_dataset` would load for ``split``.

    Raises:
        UnknownSplitError: there is none.
    """
    root = from_home(Path(path))
    _check_arguments(root, None, "ignore", None)
    return "+".join(_resolve(split, _find(root, None)[2], root))


def _check_arguments(root: Path, format: str | None, on_problem: OnProblem, check_images: str | None) -> None:
    if not os.path.exists(root) and not shards.is_pattern(root):
        what = "a link to nothing" if os.path.islink(root) else "no such folder or file"
        raise FocusDetrError(f"{root}: {what}. Check the path of the data set.")
    if not root.is_dir() and not root.is_file() and not shards.is_pattern(root):
        raise FocusDetrError(f"{root}: is a device, pipe or socket, not the folder or file of a data set.")
    refuse_system_folder(root)
    if format is not None and format not in get_args(Format):
        raise FocusDetrError(f"format={format!r}: must be one of {', '.join(get_args(Format))}.")
    if not callable(on_problem) and on_problem not in ("warn", "ignore", "raise"):
        raise FocusDetrError(f"on_problem={on_problem!r}: must be 'warn', 'ignore', 'raise' or a function.")
    if check_images is not None and check_images not in get_args(ImageCheck):
        raise FocusDetrError(
            f"check_images={check_images!r}: must be one of {', '.join(get_args(ImageCheck))}."
        )


def _find(root: Path, format: str | None) -> tuple[Format, Any, dict[str, Any]]:
    """Format, reader and splits by name, in `root` or in the one folder of it that holds a data set.

    A yaml that cannot be read is an error only where nothing else is found.
    """
    readers = [(name, reader) for name, reader in _READERS if format in (None, name)]
    errors: list[UnreadableFileError] = []
    for places in ([root], folders_in(root) if root.is_dir() else []):
        found: list[tuple[Format, Any, dict[str, Any]]] = []
        where: dict[Path, None] = {}
        for place in places:
            for name, reader in readers:
                try:
                    splits = reader.find_splits(place)
                except UnreadableFileError as error:
                    if reader is not yolo:
                        raise
                    errors.append(error)  # a yaml may be about anything
                    continue
                if splits:
                    found.append((name, reader, splits))
                    where[place] = None
                    break
        if len(where) > 1:
            raise FocusDetrError(f"{root} holds several data sets: {listed(where)}. Give one of these.")
        if found:
            return found[0]
    if errors:
        raise errors[0]
    looked_for = {
        "coco": "COCO json (annotations/instances_train.json, train/_annotations.coco.json)",
        "yolo": "a YOLO data.yaml with 'names' and 'train' (or classes.txt, or obj.data)",
        "voc": "a VOC folder Annotations with xml files",
        "shards": "tar files beside a categories.json",
    }
    wanted = dict.fromkeys(name for name, _ in readers)
    odd = [
        file for place in (root, *folders_in(root)) for file in odd_files_in(place, ".json", ".yaml", ".yml")
    ]
    but = f" What is no regular file is not read: {listed(odd)}." if odd else ""
    if traces := yolo_plain.traces_in(root):
        but += (
            f" {listed(traces)} tells of YOLO labels, but no picture with a label file was found: put the "
            "pictures into 'images' beside 'labels', or write a data.yaml with `train: FOLDER` and "
            "`names: [...]`."
        )
    raise FocusDetrError(
        f"{root}: no data set found. Looked for {'; '.join(looked_for[name] for name in wanted)}.{but}"
    )


def _settle_crowds(sources: list[Source], crowds: str, root: Path, log: ProblemLog) -> None:
    """Makes crowd regions objects where asked to; refuses data in which everything is a crowd region."""
    if crowds not in _CROWDS:
        raise FocusDetrError(f"crowds={crowds!r}: must be one of {', '.join(_CROWDS)}.")
    boxes = [box for source in sources for image in source.images for box in image.boxes]
    regions = [box for box in boxes if box.crowd]
    if crowds == "objects":
        for box in regions:
            box.crowd = False
        return
    fix = (
        "If they are objects, say --crowds objects (in training --set crowds=objects, in Python "
        "crowds='objects'), or write iscrowd 0."
    )
    if regions and len(regions) == len(boxes):
        raise FocusDetrError(
            f"{root}: all {len(boxes)} annotations have iscrowd 1: regions of many objects, from which "
            f"nothing is learned. {fix}"
        )
    if len(regions) > len(boxes) / 2:
        log.add(
            "mostly-crowds",
            "warning",
            root,
            f"{len(regions)} of {len(boxes)} annotations have iscrowd 1",
            fix,
        )


def _resolve(split: str | None, splits: dict[str, Any], root: Path) -> dict[str, Any]:
    existing = listed(map(repr, splits))
    if split is None:
        if len(splits) > 1:
            raise UnknownSplitError(f"{root} has the splits {existing}: say which one.")
        return dict(splits)
    handles = {}
    for wanted in split.split("+"):
        matches = [name for name in splits if name == wanted] or [
            n for n in splits if short_split_name(n) == short_split_name(wanted)
        ]
        if len(matches) != 1:
            state = f"could be {listed(matches)}" if matches else "does not exist"
            raise UnknownSplitError(f"{root}: the split {wanted!r} {state}. Splits there: {existing}.")
        handles[matches[0]] = splits[matches[0]]
    return handles


def short_split_name(name: str) -> str:
    """A split's name without a year, and one for what `val` is also called."""
    without_year = re.sub(r"_?\d{4}$", "", name.lower())
    return "val" if without_year in _VALIDATION_NAMES else without_year


def _number_images(records: list[Record]) -> None:
    """Keeps the source's image ids where they are whole numbers and unique, and gives the others fresh
    ones."""
    taken: set[int] = set()
    fresh = max((record.image_id for record in records), default=0) + 1
    fresh = max(fresh, 1)
    for record in records:
        if record.image_id == UNNUMBERED or record.image_id in taken:
            record.image_id = fresh
            fresh += 1
        taken.add(record.image_id)


def _speak(dataset: DetectionDataset, on_problem: OnProblem) -> None:
    if not dataset.problems:
        return
    if on_problem == "raise":
        listed = "\n".join(str(problem) for problem in dataset.problems[:20])
        raise FocusDetrError(
            f"{dataset.name}: {len(dataset.problems)} problems in {dataset.split!r}:\n{listed}"
        )
    if on_problem == "warn":
        logger.warning("%s", dataset.summary())
