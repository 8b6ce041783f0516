"""A run that learns nothing says so once, early, and names the causes that are there and no others."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from focus_detr.data import DetectionDataset, load_dataset
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.training import Recipe, nothing_learned, train
from focus_detr.training.nothing_learned import NothingLearned
from focus_detr.training.starting_model import starts_without_weights
from focus_detr.training.state import TrainingState
from helpers.tiny_datasets import annotation, coco_content, write_coco
from helpers.tiny_training import RECIPE, small_focus_detr, tiny_detector

GOOD = Recipe.from_dict({"learning_rate": 1e-4, "batch_size": 4, "shortest_edge": 320, "longest_edge": 533})


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    messages: list[str] = []
    with caplog.at_level(logging.WARNING, logger=nothing_learned.__name__):
        handler = logging.Handler()
        handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger(nothing_learned.__name__).addHandler(handler)
        yield messages
        logging.getLogger(nothing_learned.__name__).removeHandler(handler)


def run_with(aps: list[float], tiny_data: Path, output: Path, **options: object) -> None:
    left = iter(aps)
    overrides = {"epochs": len(aps), **options.pop("overrides", {})}  # type: ignore[dict-item]
    train(
        tiny_data, model=tiny_detector(), recipe=RECIPE, output=output, device="cpu", overrides=overrides,
        evaluator=lambda model: {"AP": next(left)}, **options,
    )  # fmt: skip


def causes(
    dataset: DetectionDataset,
    eval_dataset: DetectionDataset | None = None,
    recipe: Recipe = GOOD,
    random: bool = False,
    steps: int = 4000,
) -> None:
    processor = FocusDetrImageProcessor(size=recipe.image_size)
    state = TrainingState(steps, 100, steps // 2, 0.001, steps // 2)
    state.history.append({"step": state.step, "epoch": 1.0, "eval_AP": 0.001})
    NothingLearned(dataset, eval_dataset, processor, recipe, GOOD, random).on_evaluate(state)


@pytest.mark.parametrize(
    ("aps", "step"),
    [
        ([0.0] * 8, 6),  # of 3 steps an epoch, 24 in all
        pytest.param([0.0, 0.0049, 0.5, 0.6], 3, marks=pytest.mark.slow),
        ([0.0, 0.006] + [0.0] * 6, None),  # the best model is what counts
        pytest.param([0.004, 0.006, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0], None, marks=pytest.mark.slow),
    ],
)
def test_it_is_said_once_after_a_quarter_of_the_steps(aps, step, said, tiny_data, tmp_path):
    run_with(aps, tiny_data, tmp_path / "run")
    total = 3 * len(aps)
    assert [f"after {step} of {total} steps" in each for each in said] == ([] if step is None else [True])


def test_it_is_said_where_patience_ends_the_run_before(said, tiny_data, tmp_path):
    run_with([0.0] * 40, tiny_data, tmp_path / "run", overrides={"patience": 2})
    assert len(said) == 1 and "after 9 of 120 steps" in said[0]


def test_a_resumed_run_does_not_say_it_again(said, tiny_data, tmp_path):
    class Enough(Exception):
        pass

    def evaluator(model):
        if (tmp_path / "run" / "checkpoints" / "checkpoint-6").exists() and not resumed:
            raise Enough
        return {"AP": 0.0}

    resumed = False
    options = {"model": tiny_detector(), "output": tmp_path / "run", "device": "cpu", "evaluator": evaluator}
    options |= {"recipe": RECIPE, "overrides": {"epochs": 4}}
    with pytest.raises(Enough):
        train(tiny_data, **options)
    assert len(said) == 1
    resumed = True
    train(tiny_data, resume=True, **options)
    assert len(said) == 1


def test_no_cause_is_made_up(said, tmp_path):
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", coco_content())
    dataset = load_dataset(tmp_path)
    causes(dataset, dataset)
    assert "None of the usual causes was found" in said[0] and "(1)" not in said[0]


def test_boxes_too_small_at_the_resolution_are_counted(said, tmp_path):
    content = coco_content(4)  # of 40 x 30 pixels
    content["annotations"] = [annotation(i + 1, 10 + i, 7, [1, 1, 4, 4]) for i in range(4)]
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    dataset = load_dataset(tmp_path)
    causes(dataset, recipe=GOOD.replace({"shortest_edge": 45, "longest_edge": 75}))
    assert "100% of the boxes are under 8 pixels (root of the area; the median is 6.0)" in said[0]
    causes(dataset, recipe=GOOD.replace({"shortest_edge": 60, "longest_edge": 100}))
    assert "pixels" not in said[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"random": True}, "the backbone started without weights"),
        ({"recipe": GOOD.replace({"learning_rate": 1e-2})}, "learning_rate is 0.01, 100 times the 0.0001"),
        ({"recipe": GOOD.replace({"learning_rate": 1e-6})}, "learning_rate is 1e-06, 0.01 times the 0.0001"),
        ({"steps": 30}, "30 steps of 4 images, 40 passes over 3 images"),
    ],
)
def test_causes_in_the_run_are_named(options, words, said, tmp_path):
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", coco_content())
    causes(load_dataset(tmp_path), **options)
    assert f"(1) {words}" in said[0] or f"(1) the whole run is {words}" in said[0]
    assert "(2)" not in said[0]


def test_classes_that_training_never_shows_are_named(said, tmp_path):
    learned, measured = coco_content(), coco_content()
    one, other = (each["id"] for each in learned["categories"])
    for each in learned["annotations"]:
        each["category_id"] = one
    for each in measured["annotations"]:
        each["category_id"] = other
    for split, content in (("train", learned), ("val", measured)):
        write_coco(tmp_path / f"instances_{split}.json", tmp_path / split, content)
    causes(load_dataset(tmp_path, "train", on_problem="ignore"), load_dataset(tmp_path, "val"))
    count = len(measured["annotations"])
    assert (
        f"(1) {count} of the {count} boxes evaluated on are of classes that no training image shows"
        in said[0]
    )


def test_what_was_left_out_in_reading_is_named(said, tmp_path):
    content = coco_content()
    content["annotations"][0]["bbox"] = [1, 1, 0, 0]
    write_coco(tmp_path / "instances_train.json", tmp_path / "train", content)
    causes(load_dataset(tmp_path, on_problem="ignore"))
    assert "(1) parts of the data were left out (1 empty-box" in said[0]


def test_a_backbone_without_weights_is_known_by_recipe_or_norms():
    assert starts_without_weights("focus-detr-lite0", GOOD.replace({"backbone_weights": None}))
    assert not starts_without_weights("focus-detr-lite0", GOOD)
    assert not starts_without_weights("blood-cells", GOOD.replace({"backbone_weights": None}))
    assert starts_without_weights(small_focus_detr(), GOOD)
