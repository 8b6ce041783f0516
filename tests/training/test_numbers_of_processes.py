"""1, 2 and 4 processes, each with the whole model or in shards, come to the same losses and weights.

In float64, where sums in another order differ by their last bits alone: Adam divides each gradient by its
own size, so that in float32 the last bits of one that is nearly 0 become steps of their own, and nothing
could be said of weights. Nine images in batches of four: in the last step a process has an image fewer than
another, or none. The weights compared are the averaged ones.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers.tiny_training import finish, losses, start, start_many, write_dataset

UNITS = "EncoderLayer,DecoderLayer,ResNetStage"
SHARDS = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": UNITS,
}
RECIPE = {"epochs": 1, "learning_rate": 1e-3, "checkpoint_steps": None, "batch_size": 4}
OPTIONS = {"focus_detr": 4, "double": True}


@pytest.fixture(scope="module")
def nine_images(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("nine") / "data", images=9)


def train(data: Path, output: Path, processes: int, environment=None, **options) -> Path:
    options = {"overrides": RECIPE, **OPTIONS, **options}
    if processes == 1:
        finish(start(data, output, **options))
    else:
        finish(*start_many(processes, data, output, environment, **options))
    return output


@pytest.fixture(scope="module")
def alone(nine_images, tmp_path_factory) -> Path:
    return train(nine_images, tmp_path_factory.mktemp("alone") / "run", 1)


def numbers(output: Path) -> np.ndarray:
    return np.array([[float(value) for value in row.split()] for row in losses(output).values()])


def assert_same(ours: Path, theirs: Path) -> None:
    np.testing.assert_allclose(numbers(ours), numbers(theirs), rtol=1e-9, atol=1e-12)
    ours, theirs = (load_file(each / "last" / "model.safetensors") for each in (ours, theirs))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.slow
def test_two_processes_with_a_last_image_for_one_of_them(nine_images, alone, tmp_path):
    assert_same(train(nine_images, tmp_path / "run", 2), alone)


@pytest.mark.slow
@pytest.mark.parametrize("environment", [None, SHARDS], ids=["whole", "in shards of layers"])
def test_four_processes(environment, nine_images, alone, tmp_path):
    assert_same(train(nine_images, tmp_path / "run", 4, environment), alone)


@pytest.mark.slow
@pytest.mark.parametrize("environment", [None, SHARDS], ids=["whole", "in shards of layers"])
def test_any_budget(environment, nine_images, tmp_path):
    options = {"overrides": {**RECIPE, "task": "any-budget"}}
    one = train(nine_images, tmp_path / "one", 1, **options)
    assert_same(train(nine_images, tmp_path / "two", 2, environment, **options), one)


@pytest.mark.slow
def test_statistics_of_salience_detrs_fusion_are_those_of_the_whole_step(tmp_path):
    # Three images in the last step, two of them in one process. One alone has levels of one cell, whose
    # normed values are rounding times 1 / sqrt(eps).
    data = write_dataset(tmp_path / "data", images=11)
    policy = {"token_policy": "salience", "policy_options": {"cascade": [1.0, 0.5]}}
    host = {"host": "salience-detr", "host_options": {"denoising_queries": 0}}
    options = {"fields": policy | host}
    one = train(data, tmp_path / "one", 1, **options)
    assert_same(train(data, tmp_path / "two", 2, **options), one)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(nine_images, tmp_path):
    """In the order of images that it began with: four, then one, then two."""
    recipe = {**RECIPE, "epochs": 2, "checkpoint_steps": 1}
    whole = train(nine_images, tmp_path / "whole", 1, overrides=recipe)
    options = {"overrides": recipe, **OPTIONS}
    output = tmp_path / "run"
    finish(*start_many(4, nine_images, output, die_at=2, **options), killed=True)
    finish(start(nine_images, output, resume=True, die_at=5, **options), killed=True)
    finish(*start_many(2, nine_images, output, resume=True, **options))
    assert_same(output, whole)


@pytest.mark.slow
def test_four_processes_evaluate_three_images_as_one(nine_images, alone, tmp_path):
    # Their weights differ by rounding from the first step on: none here.
    recipe = {**RECIPE, "learning_rate": 1e-15, "eval_batch_size": 1}
    options = {"evaluator": False, "overrides": recipe}
    runs = [train(nine_images, tmp_path / str(count), count, **options) for count in (1, 4)]

    def evaluations(output: Path) -> list[dict[str, str]]:
        with (output / "metrics.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["eval_AP"]]
        return [{key: value for key, value in row.items() if key.startswith("eval_")} for row in rows]

    assert evaluations(runs[1]) == evaluations(runs[0]) != []
