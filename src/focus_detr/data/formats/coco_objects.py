"""The annotations of a COCO json, each read into the box of its image, repaired or counted as lost."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from focus_detr.data.formats.coco_boxes import box_around, given_box
from focus_detr.data.formats.source import Fault, ProblemLog, RawBox, RawImage, Tally, UnknownClasses
from focus_detr.data.formats.values import id_key, is_fraction, positive, shown_value
from focus_detr.errors import FocusDetrError
from focus_detr.printable import in_line
from focus_detr.structures.masks import Mask, Runs

_COPY = Fault(
    "duplicate-annotation-id",
    "error",
    "{count} annotation[|s] [repeats|repeat] an earlier one, id and box alike, and [was|were] left out",
    "Write every annotation once.",
)
_SHARED_ID = Fault(
    "duplicate-annotation-id",
    "warning",
    "{count} annotation[|s] [shares|share] an id with a different one; [it was|all were] kept",
    "Number the annotations afresh.",
)
_NO_ID = Fault(
    "bad-id",
    "warning",
    "{count} annotation[|s] [has|have] an id that is neither number nor text; [it was|they were] kept",
    "Number the annotations afresh.",
)
_ORPHAN = Fault(
    "unknown-image",
    "error",
    "{count} annotation[|s] [names|name] an image that is not listed (or was left out)",
    "Remove them or list their images.",
)
_NO_BOX = Fault(
    "bad-box",
    "error",
    "{count} annotation[|s] [has|have] no 'bbox' of four numbers [x, y, width, height], nor a polygon or "
    "mask that can be read",
    "Correct or remove them.",
)
_FRACTIONS = Fault(
    "fraction-box",
    "error",
    "{count} [box lies|boxes lie] within 0..1, as if given in fractions of the image, and [was|were] "
    "left out",
    "COCO boxes are pixels: multiply x and width by the image's width, y and height by its height.",
)
_FROM_SHAPE = Fault(
    "box-from-polygon",
    "warning",
    "{count} annotation[|s] [has|have] no 'bbox'; the box around [its|their] polygon or mask is used",
    "Add the bbox.",
)
_NO_MASK = Fault(
    "bad-mask",
    "warning",
    "{count} object[|s] [has|have] a 'segmentation' that is neither polygons nor run lengths of the "
    "size of the image; nothing is learned of [its mask|their masks]",
    "Correct it.",
)
_NO_IMAGE_ID = Fault(
    "unknown-image",
    "error",
    "{count} annotation[|s] [has|have] no 'image_id' that is a number or text, and may be of any image",
    "Correct or remove them.",
)
_DOUBTFUL = Fault(
    "doubtful-background",
    "error",
    "{count} image[|s] without objects [was|were] left out, since annotations without a usable "
    "'image_id' may be of [it|them]",
    "Correct or remove those annotations.",
)
_CROWD = Fault(
    "bad-iscrowd",
    "warning",
    "{count} annotation[|s] [has|have] an 'iscrowd' that is neither 0 nor 1; [it is read as an "
    "object|they are read as objects]",
    "Write 0 or 1.",
)


def attach_objects(
    annotations: Iterable[Any],
    images: dict[str, RawImage],
    stands_for: dict[str, int],
    file: Path,
    log: ProblemLog,
    masks: bool = False,
) -> None:
    """Gives every image its boxes, and with `masks` those too. `images` and `stands_for` go by `id_key`.

    Where annotations do not say whose they are, images without objects are taken out of `images`: one of them
    may have objects, and as background it would teach the opposite.

    Raises `FocusDetrError` where most boxes are fractions, or no annotation names an image that is listed.
    """
    tally = Tally(file, log)
    unknown = UnknownClasses(file, log)
    seen: dict[str, tuple[Any, ...]] = {}
    boxes = fractions = placed = 0
    homeless, astray = False, ""
    for position, annotation in enumerate(annotations):
        example = f"annotations[{position}]"
        if not isinstance(annotation, dict):
            tally.add(_NO_IMAGE_ID, example)
            homeless = True
            continue
        image_key, category_key = id_key(annotation.get("image_id")), id_key(annotation.get("category_id"))
        image = images.get(image_key or "")
        box = given_box(annotation.get("bbox"))
        identity = (image_key, category_key, box)
        if _repeats(annotation.get("id"), identity, seen, tally, example):
            continue
        if box is None and (box := box_around(annotation.get("segmentation"))) is not None:
            tally.add(_FROM_SHAPE, example)
        category = stands_for.get(category_key or "")
        boxes += box is not None
        if image_key is None:
            tally.add(_NO_IMAGE_ID, f"{example} (image {shown_value(annotation.get('image_id'))})")
            homeless = True
        elif image is None:
            astray = astray or shown_value(annotation.get("image_id"))
            tally.add(_ORPHAN, f"{example} (image {shown_value(annotation.get('image_id'))})")
        elif box is None:
            tally.add(_NO_BOX, example)
        elif category is None:
            unknown.add(shown_value(annotation.get("category_id")), example)
        elif is_fraction(*box):
            fractions += 1
            tally.add(_FRACTIONS, example)
        else:
            crowd = _flag(annotation.get("iscrowd"))
            if crowd is None:
                tally.add(_CROWD, example)
            mask = None
            if masks and annotation.get("segmentation") not in (None, []):
                mask = _mask(annotation["segmentation"], image)
                if mask is None:
                    tally.add(_NO_MASK, example)
            image.boxes.append(RawBox(box, category, bool(crowd), positive(annotation.get("area")), mask))
            placed += 1
            continue
        if image is not None:
            image.lost += 1
            placed += 1
    if fractions > boxes / 2:
        raise FocusDetrError(f"{file}: {fractions} of {boxes} boxes lie within 0..1. {_FRACTIONS.fix}")
    if astray and not placed:
        raise FocusDetrError(
            f"{file}: none of its annotations names an image that is listed: {astray} is an image_id, "
            f"{in_line(next(iter(images), 'none'), 60)} an id of 'images'. Make them agree."
        )
    if homeless:
        for key in [key for key, image in images.items() if not image.boxes and not image.lost]:
            tally.add(_DOUBTFUL, in_line(images.pop(key).path.name, 120))
    tally.report()
    unknown.report(
        "annotations of category ids that 'categories' does not list", "Add the categories or remove them."
    )


def _repeats(
    identifier: Any, identity: tuple[Any, ...], seen: dict[str, tuple[Any, ...]], tally: Tally, example: str
) -> bool:
    """Whether an annotation was there before, by id and content."""
    if identifier is None:
        return False
    key = id_key(identifier)
    if key is None:
        tally.add(_NO_ID, example)
        return False
    if key in seen:
        if seen[key] == identity:
            tally.add(_COPY, f"{example} (id {in_line(key, 40)})")
            return True
        tally.add(_SHARED_ID, f"{example} (id {in_line(key, 40)})")
    seen[key] = identity
    return False


def _mask(segmentation: Any, image: RawImage) -> Mask | None:
    try:
        mask = Mask.of_coco(segmentation)
    except (FocusDetrError, KeyError, TypeError, ValueError, RuntimeError):
        return None
    if isinstance(mask.shape, Runs) and image.declared_size not in (None, mask.shape.size[::-1]):
        return None
    return mask


def _flag(value: Any) -> bool | None:
    """`iscrowd` as tools write it: 0, 1, false, true, also as text; nothing is 0. None for anything else."""
    if value is None:
        return False
    if isinstance(value, str):
        return {"": False, "0": False, "false": False, "1": True, "true": True}.get(value.strip().lower())
    return bool(value) if value in (0, 1) else None
