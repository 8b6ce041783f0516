"""Several processes train as one does, on the same images in the same steps."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from focus_detr.errors import FocusDetrError
from focus_detr.training.sampling import EpochBatchSampler
from helpers import tiny_training
from helpers.tiny_training import finish, losses, start, start_two

# The model's own random numbers differ between processes: off. Each epoch's last batch holds 2 images.
OPTIONS = {"noise": 0.0}


def numbers(output: Path) -> np.ndarray:
    return np.array([[float(value) for value in row.split()] for row in losses(output).values()])


@pytest.fixture(scope="module")
def alone(tiny_data, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("alone") / "run"
    finish(start(tiny_data, output, **OPTIONS))
    return output


def test_two_processes_train_as_one(tiny_data, alone, tmp_path):
    finish(*start_two(tiny_data, tmp_path / "run", **OPTIONS))
    np.testing.assert_allclose(numbers(tmp_path / "run"), numbers(alone), rtol=2e-5)


def test_two_processes_evaluate_as_one(tiny_data, tmp_path):
    # Each its share of the images, scored together.
    options = {"focus_detr": 0, "evaluator": False, "overrides": {"epochs": 1, "learning_rate": 1e-12}}
    finish(start(tiny_data, tmp_path / "one", **options))
    finish(*start_two(tiny_data, tmp_path / "two", **options))

    def evaluations(name):
        with (tmp_path / name / "metrics.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["eval_AP"]]
        return [{key: value for key, value in row.items() if key.startswith("eval_")} for row in rows]

    assert evaluations("two") == evaluations("one") and "eval_foreground_recall" in evaluations("one")[0]


def test_focus_detr_trains_in_two_processes_as_in_one(tiny_data, tmp_path):
    # Its normalisers are those of the whole step: some images have no object, so the shares differ.
    options = {"focus_detr": 0, "overrides": {"epochs": 1, "learning_rate": 1e-3, "clip_gradient": 0.0}}
    finish(start(tiny_data, tmp_path / "one", **options))
    finish(*start_two(tiny_data, tmp_path / "two", **options))
    np.testing.assert_allclose(numbers(tmp_path / "two"), numbers(tmp_path / "one"), rtol=1e-3)


@pytest.mark.slow
def test_any_budget_trains_in_two_processes_as_in_one(tiny_data, tmp_path):
    # All draw the same budgets, and what the teacher is sure of is counted over the whole step.
    recipe = {"epochs": 1, "batch_size": 2, "clip_gradient": 0.0, "learning_rate": 1e-6}
    options = {"focus_detr": 4, "overrides": {**recipe, "task": "any-budget"}}
    finish(start(tiny_data, tmp_path / "one", **options))
    finish(*start_two(tiny_data, tmp_path / "two", **options))
    one, two = (
        [float(value) for row in losses(tmp_path / name).values() for value in row.split()]
        for name in ("one", "two")
    )
    np.testing.assert_allclose(two, one, rtol=2e-3, atol=1e-5)


def test_focus_detr_with_denoising_trains_in_two_processes_as_in_one(tiny_data, tmp_path):
    # Noise belongs to the image, and groups are laid out for the whole step.
    # A small rate: Adam would blow the last bits of the sums up to steps of their own.
    recipe = {"epochs": 2, "batch_size": 2, "clip_gradient": 0.0, "learning_rate": 1e-6}
    options = {"focus_detr": 4, "overrides": recipe}
    finish(start(tiny_data, tmp_path / "one", **options))
    finish(*start_two(tiny_data, tmp_path / "two", **options))
    one, two = (
        [float(row.split()[0]) for row in losses(tmp_path / name).values()] for name in ("one", "two")
    )
    assert len(two) == 10
    np.testing.assert_allclose(two, one, rtol=1e-3)


@pytest.mark.slow
def test_torchrun(tiny_data, alone, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [tiny_training.__file__, str(tiny_data), str(tmp_path / "run"), json.dumps(OPTIONS)]
    source = Path(__file__).parents[2] / "src"
    subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=300,
    )
    np.testing.assert_allclose(numbers(tmp_path / "run"), numbers(alone), rtol=2e-5)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    images=st.integers(1, 60), batch=st.integers(1, 12), processes=st.integers(1, 4), epoch=st.integers(0, 3)
)
def test_every_image_once_in_the_same_steps(images, batch, processes, epoch):
    dataset = range(images)
    if batch < processes or images < processes:
        with pytest.raises(FocusDetrError, match="processes need"):
            EpochBatchSampler(dataset, batch, 7, 0, processes)
        return
    samplers = [EpochBatchSampler(dataset, batch, 7, rank, processes) for rank in range(processes)]
    one = EpochBatchSampler(dataset, batch, 7)
    for sampler in [*samplers, one]:
        sampler.set_epoch(epoch)
    steps = [sum(shares, []) for shares in zip(*samplers, strict=True)]
    assert len(steps) == len(samplers[0])
    assert steps == list(one)[: len(steps)]
    seen = [place.item for step in steps for place in step]
    assert len(set(seen)) == len(seen) > images - processes
    assert all(share for sampler in samplers for share in sampler)


def test_images_of_one_shape_come_together_and_each_batch_has_a_number_of_its_own():
    class Shaped(list):
        shapes = property(lambda self: self)

    shapes = [24, -24, 16] * 20
    sampler = EpochBatchSampler(Shaped(shapes), 4, 7)
    batches = list(sampler)
    mixed = [batch for batch in batches if len({shapes[place.item] for place in batch}) > 1]
    assert len(mixed) <= 2 and sorted(place.item for batch in batches for place in batch) == list(range(60))
    assert [{place.batch for place in batch} for batch in batches] == [{number} for number in range(15)]
    # Not one shape after the other: neighbours in an epoch differ as often as they would by chance, nearly.
    turns = sum(shapes[a[0].item] != shapes[b[0].item] for a, b in zip(batches, batches[1:], strict=False))
    assert turns >= 5


def test_order_depends_on_epoch_and_seed():
    def order(seed, epoch):
        sampler = EpochBatchSampler(range(30), 4, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(images=st.integers(1, 60), micro=st.integers(1, 6), accumulation=st.integers(1, 4))
def test_micro_batches_of_a_step_are_its_batch_in_parts(images, micro, accumulation):
    class Shaped(list):
        shapes = property(lambda self: self)

    dataset = Shaped([(24, -24, 16)[i % 3] for i in range(images)])
    parts = list(EpochBatchSampler(dataset, micro, 7, accumulation=accumulation))
    assert all(len(part) <= micro for part in parts)
    steps = [sum(parts[i : i + accumulation], []) for i in range(0, len(parts), accumulation)]
    assert steps == list(EpochBatchSampler(dataset, micro * accumulation, 7))
