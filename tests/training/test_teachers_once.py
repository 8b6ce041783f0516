"""Answers of a teacher that are found once: as live ones, kept on disk, moved as pictures are."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from focus_detr.data import Collator, TransformedDataset, build_transforms, load_dataset
from focus_detr.errors import FocusDetrError
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.structures.instances import Instances
from focus_detr.training import train
from focus_detr.training.teachers.once import OnceTeacher
from helpers.tiny_training import RECIPE, small_focus_detr, write_dataset

SIZE = {"shortest_edge": 32, "longest_edge": 32}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOCUS_DETR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "teachers"


@pytest.fixture
def looked(monkeypatch):
    seen, look = [], OnceTeacher.look

    def watched(self, image):
        seen.append(image.size)
        return look(self, image)

    monkeypatch.setattr(OnceTeacher, "look", watched)
    return seen


def saved(folder, **fields):
    small_focus_detr(0, **fields).save_pretrained(folder)
    FocusDetrImageProcessor(size=SIZE).save_pretrained(folder)
    return str(folder)


def losses(tmp_path, name, teacher, **options):
    recipe = {**RECIPE, **SIZE, "eval_split": None, "epochs": None, "max_steps": 2, "augmentation": "none"}
    recipe |= {"lr_drops": [1], "teacher": {"least_score": 0.0, "most": 4, **options}}
    output = tmp_path / name
    train(
        tmp_path / "data",
        model=small_focus_detr(0),
        recipe=recipe,
        output=output,
        teacher=teacher,
        device="cpu",
    )
    with (output / "metrics.csv").open(newline="") as file:
        return [
            float(row[key])
            for row in csv.DictReader(file)
            for key in ("loss_teacher_logits", "loss_teacher_boxes")
        ]


def test_what_was_found_once_teaches_as_a_teacher_that_looks_on(tmp_path, cache, looked):
    write_dataset(tmp_path / "data")
    teacher = saved(tmp_path / "teacher", d_model=32)
    live = losses(tmp_path, "live", teacher)
    assert not looked and min(live) > 0
    once = losses(tmp_path, "once", teacher, once=True)
    # The last bits of gradients that are nearly 0 decide Adam's first step.
    np.testing.assert_allclose(once[:2], live[:2], rtol=1e-5)
    np.testing.assert_allclose(once[2:], live[2:], rtol=1e-2)
    assert len(looked) == 10
    # Another run looks at nothing but what a disk has spoilt.
    (folder,) = cache.iterdir()
    spoilt = sorted(folder.iterdir())[0]
    spoilt.write_bytes(spoilt.read_bytes()[:50])
    assert losses(tmp_path, "again", teacher, once=True) == once
    assert len(looked) == 11 and not list(folder.glob(".*"))
    # Another teacher of the same name, or another question to it, has answers of its own.
    losses(tmp_path, "fewer", teacher, once=True, most=2)
    saved(tmp_path / "teacher", d_model=24)
    assert losses(tmp_path, "other", teacher, once=True) != pytest.approx(live, rel=1e-2)
    assert len(looked) == 31 and len(list(cache.iterdir())) == 3


def test_a_teacher_that_looks_once_compares_objects_alone(tmp_path):
    write_dataset(tmp_path / "data")
    with pytest.raises(FocusDetrError, match="teacher.features=1.0.*set it to 0"):
        losses(tmp_path, "run", saved(tmp_path / "teacher"), once=True, features=1.0)
    assert not (tmp_path / "run").exists()


def test_what_a_teacher_found_moves_as_objects_do(tmp_path):
    plain = load_dataset(write_dataset(tmp_path / "data"), "train")
    records = []
    for record in plain.records:
        logits = np.arange(2 * len(record.labels), dtype=np.float32).reshape(-1, 2)
        found = Instances(record.boxes_xyxy, record.labels, class_logits=logits + 100 * record.image_id)
        records.append(replace(record, taught=found))
    transforms = build_transforms("small-data", size=SIZE, mosaic=0.5, vertical_flip=0.5)
    dataset = TransformedDataset(plain.with_records(records), transforms)
    collator, seen = Collator(FocusDetrImageProcessor()), 0
    for epoch in range(4):
        dataset.set_epoch(epoch)
        for index in range(len(dataset)):
            (label,) = collator([dataset[index]])["labels"]
            np.testing.assert_array_equal(label["taught_boxes"], label["boxes"])
            assert label["taught_logits"].shape == (len(label["boxes"]), 2)
            seen += len(label["boxes"])
    assert seen > 40
