"""What holds of any data set and any batch: what is written is what is read, and padding hides nothing."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from focus_detr.data import Collator, list_splits, load_dataset
from focus_detr.data.records import Sample
from focus_detr.errors import FocusDetrError
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.structures.instances import Instances
from helpers.tiny_datasets import voc_xml, write_image

WIDTH, HEIGHT = 40, 30
NAMES = st.lists(
    st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=8),
    min_size=1, max_size=4, unique_by=str.casefold,
)  # fmt: skip
# Whole pixels, two at least: what every format can say.
BOX = st.tuples(st.integers(0, WIDTH - 2), st.integers(0, HEIGHT - 2)).flatmap(
    lambda low: st.tuples(*map(st.just, low), st.integers(low[0] + 2, WIDTH), st.integers(low[1] + 2, HEIGHT))
)
Objects = list[list[tuple[int, tuple[int, ...]]]]


@st.composite
def data_sets(draw: Any) -> tuple[list[str], Objects]:
    """Names of classes, and for each picture its objects: label and box. One picture has one at least."""
    names = draw(NAMES)
    one = st.tuples(st.integers(0, len(names) - 1), BOX)
    # An object twice is a problem of its own (tests of formats).
    objects = st.lists(one, max_size=4, unique=True)
    return names, [
        draw(st.lists(one, min_size=1, max_size=4, unique=True)),
        *draw(st.lists(objects, max_size=2)),
    ]


def as_coco(root: Path, names: list[str], objects: Objects) -> None:
    annotations = [
        {"id": 0, "image_id": picture, "category_id": label + 1, "iscrowd": 0,
         "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]]}
        for picture, each in enumerate(objects) for label, box in each
    ]  # fmt: skip
    for number, entry in enumerate(annotations):
        entry["id"] = number + 1
    images = [
        {"id": number, "file_name": f"{number}.png", "width": WIDTH, "height": HEIGHT}
        for number in range(len(objects))
    ]
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(names)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "instances_train.json").write_text(json.dumps(content))


def as_yolo(root: Path, names: list[str], objects: Objects) -> None:
    said = yaml.safe_dump(names, allow_unicode=True, default_flow_style=True, width=float("inf")).strip()
    (root / "data.yaml").write_text(f"train: train\nnames: {said}\n", encoding="utf-8")
    for number, each in enumerate(objects):
        rows = [
            f"{label} {(x1 + x2) / 2 / WIDTH} {(y1 + y2) / 2 / HEIGHT} "
            f"{(x2 - x1) / WIDTH} {(y2 - y1) / HEIGHT}\n"
            for label, (x1, y1, x2, y2) in each
        ]
        (root / "train" / f"{number}.txt").write_text("".join(rows))


def as_voc(root: Path, names: list[str], objects: Objects) -> None:
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "train").rename(root / "JPEGImages")
    (root / "labels.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    for number, each in enumerate(objects):
        boxes = [(names[label], x1 + 1, y1 + 1, x2, y2) for label, (x1, y1, x2, y2) in each]
        text = voc_xml(boxes, WIDTH, HEIGHT, f"{number}.png")
        (root / "Annotations" / f"{number}.xml").write_text(text, encoding="utf-8")
    (root / "ImageSets" / "Main" / "train.txt").write_text("".join(f"{n}\n" for n in range(len(objects))))


@pytest.mark.parametrize("write", [as_coco, as_yolo, as_voc])
@given(data_sets())
@settings(max_examples=25)
def test_what_a_format_says_is_what_is_read(write: Any, data: tuple[list[str], Objects]) -> None:
    names, objects = data
    with TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(len(objects)):
            write_image(root / "train" / f"{number}.png", WIDTH, HEIGHT, number)
        write(root, names, objects)
        read = load_dataset(root, "train")
        assert read.class_names == names and not read.problems
        found = {int(record.path.stem): record for record in read.records}
        assert set(found) == set(range(len(objects)))
        for number, each in enumerate(objects):
            given_boxes = sorted((label, *box) for label, box in each)
            boxes = np.round(found[number].boxes_xyxy, 2).tolist()
            assert (
                sorted((int(a), *b) for a, b in zip(found[number].labels, boxes, strict=True)) == given_boxes
            )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
ENTRY = st.dictionaries(
    st.sampled_from(["id", "image_id", "category_id", "bbox", "segmentation", "file_name", "name", "width"]),
    JSON | st.just("0.png") | st.just([1, 2, 3, 4]) | st.just(1),
)


@given(
    st.fixed_dictionaries(
        dict.fromkeys(["images", "annotations", "categories"], st.lists(ENTRY, max_size=3) | JSON)
    )
)
@settings(max_examples=150)
def test_json_of_any_values_is_a_data_set_or_refused(content: Any) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "instances_train.json").write_text(json.dumps(content))
        write_image(root / "train" / "0.png")
        try:
            for split in list_splits(root):
                json.dumps(load_dataset(root, split, on_problem="ignore").to_coco())
        except FocusDetrError as refused:
            assert str(root) in str(refused) or root.name in str(refused)


@st.composite
def samples(draw: Any) -> Sample:
    width, height = draw(st.integers(1, 50)), draw(st.integers(1, 50))
    side = st.floats(0, 1, width=32)
    corners = np.array(draw(st.lists(st.tuples(side, side, side, side), max_size=3)), dtype=np.float32)
    corners = corners.reshape(-1, 4) * np.array([width, height] * 2, dtype=np.float32)
    low, high = np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])
    image = Image.fromarray(np.full((height, width, 3), draw(st.integers(0, 255)), dtype=np.uint8))
    labels = np.arange(len(corners), dtype=np.int64)
    return Sample(
        image, Instances(np.concatenate([low, high], axis=1), labels), 7, Path("x"), (height, width)
    )


@given(st.lists(samples(), min_size=1, max_size=4), st.integers(1, 32))
@settings(max_examples=60)
def test_a_batch_holds_each_picture_as_it_is_alone(batch: list[Sample], divisor: int) -> None:
    collate = Collator(FocusDetrImageProcessor(pad_divisor=divisor))
    together = collate(batch)
    assert all(side % divisor == 0 for side in together["pixel_values"].shape[2:])
    for position, sample in enumerate(batch):
        width, height = sample.image.size
        pixels, mask = together["pixel_values"][position], together["pixel_mask"][position]
        alone = collate([sample])
        assert torch.equal(pixels[:, :height, :width], alone["pixel_values"][0, :, :height, :width])
        assert int(mask.sum()) == height * width and bool(mask[:height, :width].all())
        assert not pixels[:, ~mask.bool()].any()
        label = together["labels"][position]
        assert label["size"].tolist() == [height, width] and label["orig_size"].tolist() == [height, width]
        boxes = label["boxes"].double()
        corners = torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], dim=1)
        back = corners * torch.tensor([width, height, width, height])
        assert torch.allclose(back, torch.from_numpy(sample.boxes_xyxy).double(), atol=1e-4)
        assert label["class_labels"].tolist() == sample.labels.tolist()
