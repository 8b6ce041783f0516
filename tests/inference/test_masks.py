"""Masks of what is found: in pixels of the picture, through tiles, and in every form they are written in."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from focus_detr.data import load_dataset
from focus_detr.errors import FocusDetrError
from focus_detr.inference import Detections, Predictor, write_coco, write_jsonl, write_masks, write_yolo
from focus_detr.inference.journal import Journal
from focus_detr.pictures.boxes import draw_detections
from focus_detr.structures.instances import Instances
from focus_detr.structures.masks import Mask, as_array
from focus_detr.structures.pixel_masks import FORM
from helpers.fake_detector import CLASS_NAMES, FakeModel, plain_processor


@dataclass
class Output:
    logits: torch.Tensor
    pred_boxes: torch.Tensor
    extra: dict[str, torch.Tensor]

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


class MaskedModel(FakeModel):
    """Says of each pixel its color, and of each query which color it is of."""

    def __init__(self, **config: Any) -> None:
        super().__init__(heads=["masks"], **config)

    def forward(self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor) -> Output:
        plain = super().forward(pixel_values, pixel_mask)
        kernels = torch.zeros(len(pixel_values), 2, 2 + FORM)
        kernels[:, :, :2], kernels[:, :, 2] = 20 * torch.eye(2), -10
        sizes = torch.stack([pixel_mask[:, :, 0].sum(1), pixel_mask[:, 0].sum(1)], 1)
        extra = {"masks_kernels": kernels, "masks_pixels": pixel_values[:, :2], "masks_sizes": sizes}
        return Output(plain.logits, plain.pred_boxes, extra)


def picture() -> Image.Image:
    image = Image.new("RGB", (64, 48))
    draw = ImageDraw.Draw(image)
    draw.polygon([(4, 4), (30, 8), (16, 20), (26, 40), (6, 34)], fill=(255, 0, 0))
    draw.ellipse((36, 10, 60, 30), fill=(0, 255, 0))
    return image


def truth(image: Image.Image) -> list[np.ndarray]:
    pixels = np.asarray(image)
    return [pixels[..., 0] > 128, pixels[..., 1] > 128]


def found(image: Image.Image | None = None, **options: Any) -> Detections:
    predictor = Predictor(MaskedModel(), plain_processor())
    assert predictor.gives_masks and not Predictor(FakeModel(), plain_processor()).gives_masks
    result = next(iter(predictor.predict(picture() if image is None else image, keep_images=True, **options)))
    assert isinstance(result, Detections)
    return result


def test_masks_are_the_pixels_of_their_objects_in_a_batch_too() -> None:
    small = picture().crop((0, 0, 40, 44))
    images = [picture(), small]
    for image, each in zip(images, Predictor(MaskedModel(), plain_processor()).detect(images), strict=True):
        assert each.masks is not None and len(each) == 2
        for mask, expected in zip(each.masks, truth(image), strict=True):
            np.testing.assert_array_equal(mask.decode(each.image_size), expected)


def test_they_are_computed_for_what_is_kept_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    original = Mask.of_bitmap.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Mask, "of_bitmap", classmethod(lambda cls, *a, **o: asked.append(1) or original(cls, *a, **o))
    )
    assert len(found(threshold=0.8)) == 1 and len(asked) == 1
    asked.clear()
    assert found(classes=["green"]).class_names == ["green"] and len(asked) == 1


@pytest.mark.parametrize("side", [32, 40])
def test_masks_of_objects_in_several_tiles_are_whole(side: int) -> None:
    each = found(tile=side, overlap=0.3)
    assert each.masks is not None and sorted(each.class_names) == ["green", "red"]
    for name, mask in zip(each.class_names, each.masks, strict=True):
        expected = truth(picture())[CLASS_NAMES.index(name)]
        bitmap = mask.decode(each.image_size)
        assert (bitmap & expected).sum() / (bitmap | expected).sum() > 0.93


def test_coco_and_json_hold_run_lengths(tmp_path: Path) -> None:
    each = found()
    for entry, expected in zip(each.to_coco(image_id=3), truth(picture()), strict=True):
        np.testing.assert_array_equal(Mask.of_coco(entry["segmentation"]).decode((48, 64)), expected)
    write_coco([each], tmp_path / "a.json")
    assert all("segmentation" in entry for entry in json.loads((tmp_path / "a.json").read_text()))
    write_jsonl([each], tmp_path / "a.jsonl")
    objects = json.loads((tmp_path / "a.jsonl").read_text())["objects"]
    assert [Mask.of_coco(item["mask"]).decode((48, 64)).sum() for item in objects] == [
        bitmap.sum() for bitmap in truth(picture())
    ]
    plain = replace(each, instances=replace(each.instances, masks=None))
    assert all("mask" not in item for item in plain.to_dict()["objects"])
    assert all("segmentation" not in entry for entry in plain.to_coco(image_id=3))


def test_yolo_polygons_are_read_again_as_the_same_masks(tmp_path: Path) -> None:
    each = replace(found(), path="a.png")
    write_yolo([each], tmp_path / "yolo")
    dataset = load_dataset(tmp_path / "yolo", "train", masks=True)
    assert not dataset.problems
    sample = dataset[0]
    assert sample.instances.masks is not None
    for mask, expected in zip(sample.instances.masks, truth(picture()), strict=True):
        bitmap = mask.decode((48, 64))
        assert (bitmap & expected).sum() / (bitmap | expected).sum() > 0.93


def test_a_mask_of_parts_is_one_polygon_and_an_empty_one_is_its_box(tmp_path: Path) -> None:
    parts = np.zeros((48, 64), dtype=bool)
    parts[4:12, 4:12], parts[20:30, 20:40], parts[5:9, 40:50] = True, True, True
    masks = as_array([Mask.of_bitmap(parts), Mask.of_bitmap(np.zeros((48, 64), dtype=bool))])
    boxes = np.array([[4, 4, 50, 30], [8, 8, 16, 16]], np.float32)
    objects = Instances(boxes, np.array([0, 1]), np.array([0.9, 0.8], np.float32), masks=masks)
    each = Detections("a.png", objects, CLASS_NAMES, (48, 64), image=picture())
    write_yolo([each], tmp_path / "yolo")
    first, second = (tmp_path / "yolo" / "labels" / "a.txt").read_text().splitlines()
    assert len(second.split()) == 5
    ring = np.array(first.split()[1:], float).reshape(-1, 2) * [64, 48]
    drawn = Mask.of_rings([ring.reshape(-1)]).decode((48, 64))
    assert (drawn & parts).sum() / (drawn | parts).sum() > 0.9


def test_numbered_pixels_say_which_object_is_in_front(tmp_path: Path) -> None:
    each = found()
    assert each.masks is not None
    whole = Mask.of_bitmap(np.ones((48, 64), dtype=bool))
    behind = replace(each, instances=replace(each.instances, masks=as_array([each.masks[0], whole])))
    write_masks([behind], tmp_path / "masks")
    (file,) = (tmp_path / "masks").iterdir()
    numbers = np.asarray(Image.open(file))
    np.testing.assert_array_equal(numbers, np.where(truth(picture())[0], 1, 2))
    bare = replace(each, instances=replace(each.instances, masks=None))
    with pytest.raises(FocusDetrError, match="no masks.*--task segment"):
        write_masks([bare], tmp_path / "bare")


def test_supervision_gets_bitmaps() -> None:
    pytest.importorskip("supervision")
    given = found().to_supervision()
    for bitmap, expected in zip(given.mask, truth(picture()), strict=True):
        np.testing.assert_array_equal(bitmap, expected)
    none = found(Image.new("RGB", (64, 48))).to_supervision()
    assert len(none) == 0


def test_a_run_that_goes_on_knows_the_masks_that_were_found(tmp_path: Path) -> None:
    each = replace(found(), image=None)
    with Journal(tmp_path / "journal", {}) as journal:
        journal.add(each)
    again = Journal(tmp_path / "journal", {}, resume=True).results[0]
    assert isinstance(again, Detections) and again.to_dict() == each.to_dict()


def test_pictures_show_masks_in_the_color_of_their_class() -> None:
    each = found()
    bare = replace(each, instances=replace(each.instances, masks=None))
    with_masks, without = (
        np.asarray(draw_detections(picture(), one, labels=False, legend=False)).astype(int)
        for one in (each, bare)
    )
    assert with_masks.shape == without.shape
    changed = (with_masks != without).any(-1)
    factor = with_masks.shape[0] // 48
    covered = np.logical_or(*truth(picture())).repeat(factor, 0).repeat(factor, 1)
    assert not changed[~covered].any() and changed[covered].mean() > 0.8
