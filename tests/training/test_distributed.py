"""Several processes train as one does, on the same images in the same steps."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from focus_detr.data import Collator, TransformedDataset, build_transforms, load_dataset
from focus_detr.errors import FocusDetrError
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.training import processes as joining
from focus_detr.training.sampling import STANDS_IN, EpochBatchSampler, load_steps
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ACCELERATE = ["accelerate.commands.launch", "--num_processes", "2", "--num_machines", "1"]
ACCELERATE += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
IN_SHARDS = ["--use_fsdp", "--fsdp_version", "2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [TORCHRUN, [*ACCELERATE, "--cpu"], ACCELERATE + IN_SHARDS],
    ids=["torchrun", "accelerate", "FSDP"],
)
def test_launchers_of_processes(launcher, tiny_data, alone, tmp_path):
    command = [sys.executable, "-m", *launcher]
    # As it is typed where there is no GPU: nothing says which device.
    options = OPTIONS | ({"device": None} if launcher is TORCHRUN else {})
    command += [tiny_training.__file__, str(tiny_data), str(tmp_path / "run"), json.dumps(options)]
    places = [Path(__file__).parents[2] / "src", Path(__file__).parents[1]]
    environment = {"PYTHONPATH": os.pathsep.join(map(str, places)), "OMP_NUM_THREADS": "1"}
    environment["CUDA_VISIBLE_DEVICES"] = ""
    subprocess.run(command, env=os.environ | environment, check=True, timeout=300)
    np.testing.assert_allclose(numbers(tmp_path / "run"), numbers(alone), rtol=2e-5)


def test_processes_are_of_cpus_where_there_is_nothing_else(monkeypatch):
    told = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    for name in ("PartialState", "Accelerator"):
        made = SimpleNamespace(use_distributed=True, distributed_type=None)
        monkeypatch.setattr(joining, name, lambda made=made, **given: told.append(given["cpu"]) or made)
    joining.join_processes()
    assert told == [True, True]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    images=st.integers(1, 60), batch=st.integers(1, 12), processes=st.integers(1, 4), epoch=st.integers(0, 3)
)
def test_every_image_once_in_the_same_steps(images, batch, processes, epoch):
    dataset = range(images)
    if batch < processes:
        with pytest.raises(FocusDetrError, match="processes need"):
            EpochBatchSampler(dataset, batch, 7, 0, processes)
        return
    samplers = [EpochBatchSampler(dataset, batch, 7, rank, processes) for rank in range(processes)]
    one = EpochBatchSampler(dataset, batch, 7)
    for sampler in [*samplers, one]:
        sampler.set_epoch(epoch)
    shares = [list(sampler) for sampler in samplers]
    # All have as many, and none is empty: an image stands in for those that a process lacks.
    assert {len(each) for each in shares} == {len(one)} and all(map(all, shares))
    for each, sampler in zip(shares, samplers, strict=True):
        each[:] = [[] if sampler.stands_in(number) else share for number, share in enumerate(each)]
    steps = [sum(parts, []) for parts in zip(*shares, strict=True)]
    assert steps == list(one)
    assert sorted(place.item for step in steps for place in step) == list(range(images))


def test_an_image_that_stands_in_has_no_objects_and_says_so(tiny_data):
    dataset = TransformedDataset(load_dataset(tiny_data, "train"), build_transforms("none"))  # of ten images
    collator = Collator(FocusDetrImageProcessor())
    counts = []
    for rank in range(3):
        sampler = EpochBatchSampler(dataset, 9, 7, rank, 3)
        *_, (last,) = load_steps(sampler, 0, collator, 0, torch.device("cpu"))
        counts.append((last.get(STANDS_IN, False), sum(len(each["boxes"]) for each in last["labels"])))
    assert [stands_in for stands_in, _ in counts] == [False, True, True]
    assert [count for _, count in counts[1:]] == [0, 0]


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
