"""A teacher in training: what it is compared by, what it cannot teach, and runs that are stopped."""

import csv

import pytest
import torch

from focus_detr.errors import FocusDetrError
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.training import train
from focus_detr.training.tasks import Step, build_task
from focus_detr.training.teachers import build_teacher, read_teacher
from focus_detr.training.teachers.classes import SharedClasses
from helpers.small_models import DETR, batch, image, labels, small_model
from helpers.tiny_training import RECIPE, small_focus_detr, write_dataset

SIZES = [(96, 128), (64, 64)]
ALL = {"logits": 1.0, "boxes": 1.0, "features": 1.0, "foreground": 1.0}
PARTS = [f"loss_teacher_{name}" for name in ALL]


@pytest.fixture
def given():
    pixels, mask = batch([image(*size, seed=seed, dtype=torch.float32) for seed, size in enumerate(SIZES)])
    seeds = [{**each, "noise_seed": torch.tensor([9])} for each in labels([2, 1], SIZES)]
    return {"pixel_values": pixels, "pixel_mask": mask, "labels": seeds}


def saved(model, folder, **processor):
    model.save_pretrained(folder)
    FocusDetrImageProcessor(**processor).save_pretrained(folder)
    return str(folder)


def small(**changes):
    return small_model(dtype=torch.float32, **changes)


def taught(student, teacher, task="detection", processor=None, **options):
    values = read_teacher({"model": teacher, **options})
    plain = build_task(task, {}, student, torch.device("cpu"))
    return build_teacher(plain, values, student, processor or FocusDetrImageProcessor())


def a_step():
    return Step(0, 10, torch.Generator().manual_seed(3))


@pytest.mark.parametrize("changes", [{}, DETR | {"token_policy": "poll-and-pool"}], ids=["dino", "detr"])
def test_a_student_has_nothing_to_learn_from_its_equal_and_all_from_others(given, tmp_path, changes):
    weights = ALL if not changes else {"logits": 1.0, "boxes": 1.0}
    student = small(**changes)
    equal, other = (saved(small(seed=s, **changes), tmp_path / str(s)) for s in (0, 1))
    options = {"least_score": 0.0, **weights}
    _, parts = taught(student, equal, **options)(student, given, a_step())
    for name in weights:
        assert parts[f"loss_teacher_{name}"].item() == pytest.approx(0, abs=2e-3), name
    task = taught(student.train(), other, **options)
    loss, parts = task(student, given, a_step())
    assert all(parts[f"loss_teacher_{name}"] > 1e-3 for name in weights), parts
    torch.testing.assert_close(loss, sum(parts.values()))
    loss.backward()
    assert not [n for n, each in student.named_parameters() if each.requires_grad and each.grad is None]
    assert all(each.grad is None and not each.requires_grad for each in task.teacher.model.parameters())
    assert not task.teacher.model.training


def test_pixels_reach_the_teacher_as_it_normalises_them(given, tmp_path):
    student = small()
    folder = saved(small(), tmp_path / "a", image_mean=[0.0, 0.0, 0.0], image_std=[1.0, 1.0, 1.0])
    task = taught(student, folder)
    pixels = [torch.rand(3, *size) for size in SIZES]
    own, others = (
        processor(pixels, do_resize=False, return_tensors="pt")
        for processor in (FocusDetrImageProcessor(), FocusDetrImageProcessor.from_pretrained(folder))
    )
    converted = task.teacher.convert(own["pixel_values"], own["pixel_mask"])
    torch.testing.assert_close(converted, others["pixel_values"], atol=1e-5, rtol=0)


def test_a_teacher_of_other_width_and_classes_in_another_order_teaches_by_name(given, tmp_path):
    names = {"id2label": {0: "cat", 1: "dog", 2: "cow"}}
    student = small(num_labels=3, **names, label2id={"cat": 0, "dog": 1, "cow": 2})
    turned = {"id2label": {0: "cow", 1: "cat", 2: "dog"}, "label2id": {"cow": 0, "cat": 1, "dog": 2}}
    wide = saved(small(num_labels=3, d_model=48, **turned), tmp_path / "wide")
    task = taught(student, wide, least_score=0.0, **ALL)
    loss, parts = task(student.train(), given, a_step())
    assert all(parts[name].isfinite() and parts[name] > 0 for name in PARTS), parts
    logits = torch.tensor([[10.0, 20.0, 30.0]])
    assert task.teacher.classes.of_teacher(logits, False).tolist() == [[20.0, 30.0, 10.0]]


def test_classes_are_found_by_name_or_by_what_the_recipe_calls_them(caplog):
    shared = SharedClasses.of(
        ["vehicle", "bike", "dog"], ["car", "dog", "truck"], {"car": "vehicle", "truck": "vehicle"}, "t"
    )
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    assert shared.of_teacher(logits, False).tolist() == [[3.0, 2.0]]
    assert shared.of_student(logits).tolist() == [[1.0, 3.0]] and not shared.whole
    assert "does not know bike" in caplog.text
    softmax = torch.tensor([[1.0, 2.0, 3.0, 0.5]]).log_softmax(-1)
    two = SharedClasses.of(["dog"], ["car", "dog", "truck"], {}, "t").of_teacher(softmax, True)
    torch.testing.assert_close(
        two.softmax(-1), torch.stack([softmax[0, 1].exp(), 1 - softmax[0, 1].exp()])[None]
    )
    with pytest.raises(FocusDetrError, match="no class is common.*teacher.classes="):
        SharedClasses.of(["a"], ["b"], {}, "t")
    with pytest.raises(FocusDetrError, match="t has no class 'cars'.*'car'"):
        SharedClasses.of(["a"], ["car"], {"cars": "a"}, "t")


def test_teachers_that_cannot_teach_are_refused(tmp_path):
    student = small()
    dense = saved(small(token_policy="dense"), tmp_path / "dense")
    detr = saved(small(**DETR, token_policy="poll-and-pool"), tmp_path / "detr")
    for folder, options, message in (
        (dense, {"foreground": 1.0}, "teacher's token_policy='dense' scores no tokens; set it to 0"),
        (dense, {"budget": 0.5}, "token_policy='dense' leaves no tokens out"),
        (detr, {}, "'detr' scores classes by softmax.*take a teacher"),
        (detr, {"logits": 0.0, "boxes": 0.0, "features": 1.0}, "strides"),
        ("blood-cells", {}, "no class is common"),
    ):
        with pytest.raises(FocusDetrError, match=message):
            taught(student, folder, **options)
    taught(student, dense, features=1.0)
    for values, message in (
        ({"logits": 2.0}, "names no model"),
        ({"model": "x", "logit": 1.0}, "unknown key 'logit'.*'logits'"),
        ({"model": "x", "boxes": -1.0}, "boxes.*must lie in"),
        ({"model": "x", "logits": 0.0, "boxes": 0.0}, "nothing of 'x' is compared"),
        ({"model": "x", "classes": {"a": 1}}, "classes"),
    ):
        with pytest.raises(FocusDetrError, match=message):
            read_teacher(values)


def rows(output):
    with (output / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if "loss" in k} for row in csv.DictReader(file) if row["loss"]]


def test_a_taught_run_that_was_stopped_goes_on_with_the_same_teacher(tmp_path, monkeypatch):
    from focus_detr.training.loop import TrainingLoop

    write_dataset(tmp_path / "data")
    teacher = saved(small_focus_detr(0, d_model=32), tmp_path / "teacher")
    options = {"device": "cpu", "recipe": {**RECIPE, "eval_split": None, "epochs": 1, "checkpoint_steps": 1}}
    options["recipe"] |= {"augmentation": "none", "teacher": {"least_score": 0.0}, "task": "any-budget"}
    start = saved(small_focus_detr(4), tmp_path / "start")
    train(tmp_path / "data", model=start, output=tmp_path / "whole", teacher=teacher, **options)
    step = TrainingLoop._step

    def failing(self, *arguments):
        if self.state.step == 2:
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingLoop, "_step", failing)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "data", model=start, output=tmp_path / "halves", teacher=teacher, **options)
    (tmp_path / "teacher").rename(tmp_path / "away")
    saved(small_focus_detr(0, d_model=24), tmp_path / "teacher")
    with pytest.raises(FocusDetrError, match="not the one that the run began with"):
        train(tmp_path / "data", output=tmp_path / "halves", resume=True, device="cpu")
    (tmp_path / "teacher").rename(tmp_path / "other")
    (tmp_path / "away").rename(tmp_path / "teacher")
    train(tmp_path / "data", output=tmp_path / "halves", resume=True, device="cpu")
    assert rows(tmp_path / "halves")[-1:] == rows(tmp_path / "whole")[-1:]
    assert all(float(row["loss_teacher_logits"]) > 0 for row in rows(tmp_path / "whole"))
