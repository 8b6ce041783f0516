"""Faults of data sets, by the kind of finding that tells of each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from helpers.doctor_data import Healthy


def _cut_short(data: Healthy) -> None:
    path = data.write() / "train" / "train0.png"
    path.write_bytes(path.read_bytes()[:-200])


def _copied(data: Healthy) -> None:
    data.write()
    shutil.copy(data.picture("train", 0), data.picture("train", 1))


def _leaked(data: Healthy) -> None:
    data.write()
    shutil.copy(data.picture("train", 0), data.picture("val", 1))


def _again(data: Healthy) -> None:
    data.write()
    resaved(data.picture("train", 0), data.picture("train", 1))


def _leaked_again(data: Healthy) -> None:
    data.write()
    resaved(data.picture("train", 0), data.picture("val", 1))


def resaved(source: Path, target: Path, quality: int = 60) -> None:
    """As other people's pipelines leave a picture: smaller, compressed, brighter, and of that size again."""
    with Image.open(source) as image:
        small = image.resize((80, 60)).point(lambda value: min(255, value + 8))
        small.save(target.with_suffix(".jpg"), quality=quality)
    with Image.open(target.with_suffix(".jpg")) as image:
        image.resize((120, 90)).save(target)
    target.with_suffix(".jpg").unlink()


def _same_ids(data: Healthy) -> None:
    for entry in data.splits["val"]["images"]:
        entry["id"] -= 100
    for entry in data.splits["val"]["annotations"]:
        entry["image_id"] -= 100
    data.write()


def _same_names(data: Healthy) -> None:
    data.splits["val"]["images"][0]["file_name"] = "train0.png"
    data.write()


def _object(data: Healthy, category: int, box: list[float]) -> None:
    of_first = data.splits["train"]["annotations"]
    of_first.append({**of_first[0], "id": 999, "category_id": category, "bbox": box})
    data.write()


def _unused(data: Healthy) -> None:
    for each in data.splits.values():
        each["categories"].append({"id": 9, "name": "emu"})
    data.write()


def _rare(data: Healthy) -> None:
    train = data.splits["train"]
    more = [
        {
            **train["annotations"][0],
            "id": 1000 + i,
            "bbox": [1 + i % 50, 1 + i // 50, 9 + i % 7, 9 + i % 5],
            "image_id": 100 + i % 6,
        }
        for i in range(700)
    ]
    train["annotations"] = [*train["annotations"][2:4], *more]
    data.write()


def _few(data: Healthy) -> None:
    data.splits["train"]["annotations"] = data.splits["train"]["annotations"][:8]
    data.write()


def _twins(data: Healthy) -> None:
    for each in data.splits.values():
        each["categories"][1]["name"] = "Cats"
    data.write()


def _sized(size: tuple[int, int]) -> Callable[[Healthy], None]:
    def spoil(data: Healthy) -> None:
        image = data.splits["train"]["images"][5]
        image["width"], image["height"] = size
        data.splits["train"]["annotations"] = [
            each for each in data.splits["train"]["annotations"] if each["image_id"] != image["id"]
        ]
        data.write()

    return spoil


def _filled(data: Healthy) -> None:
    for each in data.splits["train"]["annotations"][::4]:
        each["bbox"] = [0, 0, 120, 90]
    data.write()


def _one_each(data: Healthy) -> None:
    train = data.splits["train"]
    for each in data.splits.values():
        each["categories"] = [{"id": i, "name": f"place {i} {'abcdef'[i]}"} for i in range(6)]
        each["annotations"] = each["annotations"][::4]
        for number, annotation in enumerate(each["annotations"]):
            annotation["category_id"] = number
    assert len(train["annotations"]) == 6
    data.write()


def _clipped(data: Healthy) -> None:
    data.splits["train"]["annotations"][0]["bbox"] = [-20, 5, 40, 20]
    data.write()


def _empty(data: Healthy) -> None:
    data.splits["train"]["annotations"][0]["bbox"] = [5, 5, 0, 20]
    data.write()


def _outside(data: Healthy) -> None:
    data.splits["train"]["annotations"][0]["bbox"] = [500, 5, 10, 20]
    data.write()


def _missing(data: Healthy) -> None:
    data.write()
    data.picture("train", 0).unlink()


def _id_twice(data: Healthy) -> None:
    data.splits["train"]["images"][1]["id"] = data.splits["train"]["images"][0]["id"]
    data.write()


def _union(data: Healthy) -> None:
    root = data.write()
    parts = [each for each in data.splits.values()]
    data.splits = {
        "trainval": {
            **parts[0],
            "images": [
                {**image, "file_name": f"{split}/{image['file_name']}"}
                for split, part in zip(("train", "val"), parts, strict=True)
                for image in part["images"]
            ],
        }
    }
    (root / "instances_trainval.json").write_text(json.dumps(data.splits["trainval"]))


FAULTS: dict[str, tuple[str, Callable[[Healthy], None]]] = {
    "unreadable-image": ("error", _cut_short),
    "identical-pictures": ("warning", _copied),
    "picture-in-two-splits": ("warning", _leaked),
    "near-duplicates": ("note", _again),
    "alike-in-two-splits": ("warning", _leaked_again),
    "image-id-in-two-splits": ("note", _same_ids),
    "file-name-in-two-splits": ("note", _same_names),
    "nearly-doubled-box": ("warning", lambda data: _object(data, 1, [5.4, 5, 20, 20])),
    "box-in-two-classes": ("warning", lambda data: _object(data, 2, [5.4, 5, 20, 20])),
    "elongated-box": ("warning", lambda data: _object(data, 2, [2, 2, 80, 3])),
    "unused-classes": ("warning", _unused),
    "class-imbalance": ("warning", _rare),
    "few-objects": ("note", _few),
    "similar-class-names": ("warning", _twins),
    "small-pictures": ("warning", _sized((40, 40))),
    "strips": ("warning", _sized((700, 100))),
    "boxes-fill-pictures": ("warning", _filled),
    "one-picture-classes": ("warning", _one_each),
    "box-clipped": ("warning", _clipped),
    "empty-box": ("error", _empty),
    "box-outside": ("error", _outside),
    "missing-image": ("error", _missing),
    "duplicate-image-id": ("error", _id_twice),
    "union-of-splits": ("note", _union),
}
