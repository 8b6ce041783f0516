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
from focus_detr.training.teachers.once import OnceTeacher, read
from helpers.foreign import write_yolox
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


@pytest.mark.slow
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


def test_a_detector_that_others_exported_teaches_the_classes_that_the_data_have(
    tmp_path, cache, looked, caplog
):
    write_dataset(tmp_path / "data")
    teacher = tmp_path / "yolox.onnx"
    # Of dog, sofa and cat: a dog that two cells see, a sofa, and a cat that nobody is sure of.
    cells = {9: (0.9, 0.1, 0.1), 10: (0.8, 0.1, 0.1), 40: (0.1, 0.9, 0.1), 60: (0.1, 0.1, 0.3)}
    write_yolox(teacher, cells)
    caplog.set_level("INFO")
    first = losses(tmp_path, "first", str(teacher), names="dog, sofa, cat", least_score=0.2)
    assert len(looked) == 10 and min(first) > 0 and "the data have no sofa" in caplog.text
    (folder,) = cache.iterdir()
    for file in folder.iterdir():
        logits, boxes = read(file)
        scores = 1 / (1 + np.exp(-logits))
        np.testing.assert_allclose(scores, [[0.1, 0.9], [0.3, 0.1]], atol=1e-4)  # of cat and dog
        assert boxes.shape == (2, 4)
    assert losses(tmp_path, "second", str(teacher), names="dog, sofa, cat", least_score=0.2) == first
    assert len(looked) == 10


def test_names_of_a_foreign_detector_are_needed_and_no_other_s(tmp_path):
    write_dataset(tmp_path / "data")
    write_yolox(tmp_path / "yolox.onnx", {})
    with pytest.raises(FocusDetrError, match="has 3 classes, and their names are not in it"):
        losses(tmp_path, "run", str(tmp_path / "yolox.onnx"))
    with pytest.raises(FocusDetrError, match="teacher.names='cat,dog'.*names its classes itself"):
        losses(tmp_path, "run", saved(tmp_path / "teacher"), once=True, names="cat,dog")
