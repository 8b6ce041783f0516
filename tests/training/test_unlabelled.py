"""Pictures without labels: labelled by the average, seen in two views, and again the same when resumed."""

import csv
import shutil

import numpy as np
import pytest
import torch

from focus_detr.errors import FocusDetrError
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.training import train
from focus_detr.training.recipe import Recipe
from focus_detr.training.tasks import Step, Task
from focus_detr.training.teachers.unlabelled import (
    UnlabelledOptions,
    UnlabelledPictures,
    UnlabelledTask,
    read_unlabelled,
)
from helpers.tiny_training import RECIPE, small_focus_detr, write_dataset

CLASSES = ["cat", "dog"]


@pytest.fixture
def folder(tmp_path):
    write_dataset(tmp_path / "data")
    shutil.copytree(tmp_path / "data" / "train", tmp_path / "more")
    return tmp_path / "more"


def pictures(folder, rank=0, processes=1, share=2):
    recipe = Recipe.from_dict(RECIPE)
    return UnlabelledPictures(folder, CLASSES, recipe, 3, share, rank, processes)


def test_both_views_have_one_geometry_and_every_picture_has_its_turn(folder):
    given = pictures(folder)
    seen, strange = [], 0
    for number in range(5):
        weak, strong = given.views(number)
        for one, other in zip(weak, strong, strict=True):
            assert one.image.size == other.image.size and one.image_id == other.image_id
            assert len(one.instances) == 0
            strange += np.asarray(one.image).tolist() != np.asarray(other.image).tolist()
            seen.append(one.image_id)
    assert sorted(seen) == list(range(10)) and strange == 10
    again, _ = pictures(folder).views(3)
    assert [each.image_id for each in again] == seen[6:8]
    shared = [pictures(folder, rank, 2, 1).views(3)[0][0].image_id for rank in (0, 1)]
    assert shared == seen[6:8]


class Nothing(Task):
    def __call__(self, model, batch, step):
        return torch.zeros(()), {}


def test_the_average_labels_and_is_not_taught_and_the_weight_rises(folder):
    student, average = small_focus_detr(2).train(), small_focus_detr(0)
    processor = FocusDetrImageProcessor(size={"shortest_edge": 32, "longest_edge": 32})
    options = UnlabelledOptions(str(folder), least_score=0.0, ramp_up=0.5)
    nothing = Nothing(student, torch.device("cpu"), None)
    task = UnlabelledTask(nothing, options, pictures(folder), student, processor, 1)
    task.begin(average.train())
    weak, _ = task.pictures.views(0)
    labels = task.label(weak)
    assert not average.training and all(len(each["boxes"]) > 1 for each in labels)
    assert all(0 <= each["boxes"].min() and each["boxes"].max() <= 1.01 for each in labels)
    seen = []

    def watched(**batch):
        seen.append(batch["labels"])
        return student(**batch)

    first, parts = task(watched, {}, Step(0, 10, torch.Generator()))
    assert torch.equal(first, parts["loss_unlabelled"])
    assert torch.equal(seen[0][0]["boxes"], labels[0]["boxes"])
    first.backward()
    assert all(each.grad is not None for each in student.parameters() if each.requires_grad)
    assert all(each.grad is None for each in average.parameters())
    # The same pictures, when the weight has risen.
    task.pictures.views = lambda number, views=task.pictures.views: views(0)
    torch.testing.assert_close(task(student, {}, Step(4, 10, torch.Generator()))[0], 5 * first)
    torch.testing.assert_close(task(student, {}, Step(9, 10, torch.Generator()))[0], 5 * first)


def rows(output):
    with (output / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if "loss" in k} for row in csv.DictReader(file) if row["loss"]]


@pytest.mark.slow
def test_of_no_weight_they_change_nothing_and_a_stopped_run_goes_on_with_the_same(
    folder, tmp_path, monkeypatch
):
    from focus_detr.training.loop import TrainingLoop

    recipe = {**RECIPE, "eval_split": None, "epochs": 1, "checkpoint_steps": 1, "batch_size": 2}
    recipe |= {"gradient_accumulation": 2, "max_steps": 3, "epochs": None, "lr_drops": [2]}

    def run(name, **options):
        fields = {**recipe, **({"unlabelled": options} if options else {})}
        more = {"unlabelled": folder} if options else {}
        train(
            tmp_path / "data",
            model=small_focus_detr(2),
            recipe=fields,
            output=tmp_path / name,
            device="cpu",
            **more,
        )
        return rows(tmp_path / name)

    plain = run("plain")
    assert run("nothing", weight=0.0) == plain
    whole = run("whole", least_score=0.0)
    assert all(float(row["loss_unlabelled"]) > 0 for row in whole)
    step = TrainingLoop._step

    def failing(self, *arguments):
        if self.state.step == 2:
            raise KeyboardInterrupt
        return step(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingLoop, "_step", failing)
        with pytest.raises(KeyboardInterrupt):
            run("halves", least_score=0.0)
    resume = {"model": small_focus_detr(2), "output": tmp_path / "halves", "resume": True, "device": "cpu"}
    (folder / "0.png").rename(tmp_path / "0.png")
    with pytest.raises(FocusDetrError, match="holds other pictures"):
        train(tmp_path / "data", **resume)
    (tmp_path / "0.png").rename(folder / "0.png")
    train(tmp_path / "data", **resume)
    assert rows(tmp_path / "halves")[-1:] == whole[-1:]


def test_what_cannot_be_used_is_refused(folder, tmp_path):
    for values, message in (
        ({"weight": 1.0}, "names no folder"),
        ({"folder": "x", "least": 1.0}, "unknown key 'least'"),
        ({"folder": "x", "ramp_up": 2.0}, "ramp_up"),
    ):
        with pytest.raises(FocusDetrError, match=message):
            read_unlabelled(values)
    assert read_unlabelled({}) is None
    options = {"model": small_focus_detr(0), "output": tmp_path / "run", "device": "cpu"}
    empty = tmp_path / "empty"
    empty.mkdir()
    for place, fields, message in (
        (folder, {"ema_decay": 0.0}, "keeps none; set ema_decay"),
        (empty, {}, "holds no picture"),
        (tmp_path / "none", {}, "no such folder"),
    ):
        with pytest.raises(FocusDetrError, match=message):
            train(tmp_path / "data", recipe={**RECIPE, **fields}, unlabelled=place, **options)
    assert not (tmp_path / "run").exists()
