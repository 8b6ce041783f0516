"""Masks of data sets: read in every form, and where the pixels of their objects are after each transform."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from focus_detr.data import Collator, Sample, TransformedDataset, load_dataset
from focus_detr.data.masks import refuse_without_masks
from focus_detr.data.transforms.augmentations import build_transforms
from focus_detr.data.transforms.draws import Draws
from focus_detr.data.transforms.geometric import HorizontalFlip, RandomCrop, RandomResize, VerticalFlip
from focus_detr.data.transforms.mosaic import Mosaic
from focus_detr.errors import FocusDetrError
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.structures.instances import Instances
from focus_detr.structures.masks import Mask, as_array
from helpers.tiny_datasets import voc_xml, write_voc

SIZE = {"shortest_edge": 90, "longest_edge": 150}
RED = (255, 0, 0)
BLOB = [30.0, 20.0, 70.0, 12.0, 92.0, 44.0, 66.0, 50.0, 74.0, 78.0, 40.0, 70.0, 22.0, 46.0]


def painted(runs: bool) -> Sample:
    """Grey, with a red blob that the only mask covers exactly; as polygon, or as `runs`."""
    polygon = Mask.of_coco(BLOB)
    bitmap = polygon.decode((90, 120))
    pixels = np.full((90, 120, 3), 114, dtype=np.uint8)
    pixels[bitmap] = RED
    box = np.array([[22, 12, 92, 78]], dtype=np.float32)
    masks = as_array([Mask.of_bitmap(bitmap) if runs else polygon])
    objects = Instances(box, np.array([0]), masks=masks)
    return Sample(Image.fromarray(pixels), objects, 1, Path("a.png"), (90, 120), objects.copy())


def red(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image).astype(int)
    return pixels[..., 0] - pixels[..., 1] > 255 / 2


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


TRANSFORMS = {
    "horizontal flip": HorizontalFlip(1.0),
    "vertical flip": VerticalFlip(1.0),
    "resize": RandomResize((60, 135, 180), 260),
    "crop": RandomCrop(50, 80),
    "detr": build_transforms("detr", size=SIZE),
    "detr, stretched": build_transforms("detr", size={"height": 80, "width": 140}),
    "small-data": build_transforms("small-data", size=SIZE, vertical_flip=0.5, photometric=0.0, mosaic=0.0),
    "mosaic": Mosaic(SIZE, min_visible=0.0),
}


@pytest.mark.parametrize("runs", [False, True], ids=["polygons", "run lengths"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_masks_cover_the_pixels_of_their_objects_after_every_transform(name: str, runs: bool) -> None:
    transform: Any = TRANSFORMS[name]
    if isinstance(transform, Mosaic):
        transform = transform.bound_to([painted(runs), painted(not runs)])
    worst = 1.0
    for seed in range(12):
        sample = transform(painted(runs), Draws.alone(seed))
        covered, size = red(sample.image), (sample.image.height, sample.image.width)
        masks = [] if sample.instances.masks is None else sample.instances.masks
        union = np.zeros(size, dtype=bool)
        for mask in masks:
            union |= mask.decode(size)
        if covered.sum() < 300:
            continue  # a sliver: its outline is most of it
        worst = min(worst, overlap(union, covered))
        crowd = sample.crowds.masks
        assert crowd is not None and overlap(crowd[0].decode(size), masks[0].decode(size)) > 0.99
    assert worst > 0.93


def test_labels_hold_the_masks_in_the_grids_of_their_boxes() -> None:
    sample = painted(True)
    unknown = replace(sample.instances, masks=as_array([None]))
    none = replace(sample, instances=Instances.empty())
    batch = Collator(FocusDetrImageProcessor(), do_resize=False)(
        [sample, replace(sample, instances=unknown), none]
    )
    first, second, third = batch["labels"]
    assert first["masks"].dtype == torch.uint8 and first["masks_known"].tolist() == [True]
    left, top, right, bottom = (int(value) for value in sample.boxes_xyxy[0])
    share = red(sample.image)[top:bottom, left:right].mean()
    assert first["masks"].float().mean() / 255 == pytest.approx(share, abs=0.01)
    assert second["masks_known"].tolist() == [False] and not second["masks"].any()
    assert "masks" not in third


def coco_folder(folder: Path, segmentations: list[Any], crowd: Any = None) -> Path:
    Image.new("RGB", (120, 90)).save(folder / "a.png")
    annotations = [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": [22, 12, 70, 66 - number], "area": 9,
         "iscrowd": 0, **({} if each is None else {"segmentation": each})}
        for number, each in enumerate(segmentations, 1)
    ]  # fmt: skip
    if crowd is not None:
        annotations.append({"id": 99, "image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 20], "iscrowd": 1,
                            "segmentation": crowd})  # fmt: skip
    images = [{"id": 1, "file_name": "a.png", "width": 120, "height": 90}]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "blob"}]}
    (folder / "_annotations.coco.json").write_text(json.dumps(content))
    return folder


def test_coco_masks_are_read_when_asked_for_and_written_as_run_lengths(tmp_path: Path) -> None:
    bitmap = Mask.of_coco(BLOB).decode((90, 120))
    columns = bitmap.T.reshape(-1)
    counts = np.diff(np.r_[0, np.flatnonzero(columns[1:] != columns[:-1]) + 1, len(columns)]).tolist()
    corner = np.zeros((90, 120), dtype=bool)
    corner[:20, :20] = True
    crowd = Mask.of_bitmap(corner).to_coco((90, 120))
    folder = coco_folder(tmp_path, [[BLOB], {"size": [90, 120], "counts": counts}], crowd)
    plain = load_dataset(folder, None)
    assert plain.records[0].stated.masks is None
    assert all("segmentation" not in each for each in plain.to_coco()["annotations"])
    dataset = load_dataset(folder, None, masks=True)
    assert not dataset.problems
    sample = dataset[0]
    assert sample.instances.masks is not None and sample.crowds.masks is not None
    for mask in sample.instances.masks:
        np.testing.assert_array_equal(mask.decode((90, 120)), bitmap)
    np.testing.assert_array_equal(sample.crowds.masks[0].decode((90, 120)), corner)
    written = [each["segmentation"] for each in dataset.to_coco()["annotations"]]
    assert [Mask.of_coco(each).decode((90, 120)).sum() for each in written] == [bitmap.sum()] * 2 + [400]


def test_objects_without_masks_are_counted_and_a_data_set_without_any_is_refused(tmp_path: Path) -> None:
    other_size = Mask.of_bitmap(np.ones((5, 5), dtype=bool)).to_coco((5, 5))
    dataset = load_dataset(
        coco_folder(tmp_path, [[BLOB], None, [[1, 2]], other_size]), None, masks=True, on_problem="ignore"
    )
    problems = {problem.kind: problem.message for problem in dataset.problems}
    assert "3 of 4 objects have no mask" in problems["no-mask"]
    assert "2 objects" in problems["bad-mask"]
    masks = dataset[0].instances.masks
    assert masks is not None and [mask is None for mask in masks] == [False, True, True, True]
    refuse_without_masks(dataset)
    bare = load_dataset(coco_folder(tmp_path, [None, []]), None, masks=True, on_problem="ignore")
    assert "2 of 2 objects have no mask" in bare.problems[0].message and len(bare[0].labels) == 2
    with pytest.raises(FocusDetrError, match="no object of 'all' has a mask.*task segment"):
        refuse_without_masks(bare)


def test_yolo_polygons_are_masks_in_pixels(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.new("RGB", (120, 90)).save(tmp_path / "images" / "a.png")
    fractions = " ".join(f"{value / (120, 90)[i % 2]:.6f}" for i, value in enumerate(BLOB))
    (tmp_path / "labels" / "a.txt").write_text(f"0 {fractions}\n0 0.1 0.1 0.1 0.1\n")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [blob]\n")
    dataset = load_dataset(tmp_path, "train", masks=True, on_problem="ignore")
    masks = dataset[0].instances.masks
    assert masks is not None and masks[1] is None
    assert overlap(masks[0].decode((90, 120)), Mask.of_coco(BLOB).decode((90, 120))) > 0.99
    assert [problem.kind for problem in dataset.problems] == ["no-mask"]


def voc_folder(folder: Path, colors: bool = False, size: tuple[int, int] = (40, 30)) -> Path:
    """Two blobs, the xml's second drawn first, with void outlines; of a third object nothing is drawn."""
    root = write_voc(folder)
    boxes = [("dog", 6, 7, 15, 18), ("cat", 21, 3, 39, 28), ("cat", 2, 25, 9, 30)]
    (root / "Annotations" / "a.xml").write_text(voc_xml(boxes, filename="a.jpg"))
    numbers = np.zeros(size[::-1], dtype=np.uint8)
    numbers[2:28, 20:39], numbers[3:27, 21:38] = 255, 1
    numbers[6:18, 5:15], numbers[7:17, 6:14], numbers[9:11, 8:10] = 255, 2, 0
    drawn = Image.fromarray(numbers, "P")
    drawn.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 756 + [224, 224, 192])
    (root / "SegmentationObject").mkdir()
    (drawn.convert("RGB") if colors else drawn).save(root / "SegmentationObject" / "a.png")
    return root


@pytest.mark.parametrize("colors", [False, True], ids=["numbers", "colors"])
def test_pictures_of_objects_beside_voc_are_masks(tmp_path: Path, colors: bool) -> None:
    dataset = load_dataset(voc_folder(tmp_path / "voc", colors), "train", masks=True, on_problem="ignore")
    masks = dataset[0].instances.masks
    assert masks is not None and masks[2] is None and dataset.records[1].stated.masks is None
    dog, cat = (mask.decode((30, 40)) for mask in masks[:2])
    assert dog.sum() == 10 * 8 - 4 and dog[7:17, 6:14].sum() == dog.sum()
    assert cat.sum() == 24 * 17 and cat[3:27, 21:38].all()
    assert [problem.kind for problem in dataset.problems] == ["no-mask"]
    assert load_dataset(tmp_path / "voc", "train").records[0].stated.masks is None


@pytest.mark.parametrize("fault", ["of another size", "broken"])
def test_a_picture_of_objects_that_cannot_be_used_is_said(tmp_path: Path, fault: str) -> None:
    root = voc_folder(tmp_path / "voc", size=(40, 30) if fault == "broken" else (80, 60))
    if fault == "broken":
        (root / "SegmentationObject" / "a.png").write_bytes(b"no picture")
    dataset = load_dataset(root, "train", masks=True, on_problem="ignore")
    assert [problem.kind for problem in dataset.problems] == ["bad-mask", "no-mask"]
    assert dataset.problems[0].file.endswith("a.png") and len(dataset[0].labels) == 3


def test_boxes_and_pictures_are_the_same_with_masks_and_without(tmp_path: Path) -> None:
    folder = coco_folder(tmp_path, [[BLOB], [BLOB]])
    sets = [
        TransformedDataset(load_dataset(folder, None, masks=masks), build_transforms("small-data", size=SIZE))
        for masks in (False, True)
    ]
    for epoch in range(4):
        for dataset in sets:
            dataset.set_epoch(epoch)
        without, masked = (dataset[0] for dataset in sets)
        np.testing.assert_array_equal(without.boxes_xyxy, masked.boxes_xyxy)
        np.testing.assert_array_equal(np.asarray(without.image), np.asarray(masked.image))
        assert without.instances.masks is None and without.noise_seed == masked.noise_seed
