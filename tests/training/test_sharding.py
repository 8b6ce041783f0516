"""Two processes that hold a model in shards train, evaluate and save what one does that holds all of it.

Sums over two shares round otherwise than one sum: losses agree to 2e-5 of their size, weights to 1e-5.
"""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from focus_detr.errors import FocusDetrError
from focus_detr.training import sharding
from focus_detr.training.recipe import load_recipe
from focus_detr.training.setup import check_precision
from helpers.tiny_training import RECIPE, TinyDetector, finish, losses, start, start_two, tiny_detector

SHARDS = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
# The model's own random numbers differ between processes: off.
OPTIONS = {"noise": 0.0, "overrides": {"gradient_accumulation": 2, "clip_gradient": 0.05}}
FOLDERS = ("best", "last", "checkpoints/checkpoint-9")


@pytest.fixture(scope="module")
def alone(tiny_data, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("alone") / "run"
    finish(start(tiny_data, output, **OPTIONS))
    return output


@pytest.fixture(scope="module")
def in_shards(tiny_data, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("shards") / "run"
    finish(*start_two(tiny_data, output, SHARDS, **OPTIONS))
    return output


def numbers(output: Path) -> np.ndarray:
    return np.array([[float(value) for value in row.split()] for row in losses(output).values()])


def column(output: Path, name: str) -> list[float]:
    with (output / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def close(ours: Path, theirs: Path) -> None:
    np.testing.assert_allclose(numbers(ours), numbers(theirs), rtol=2e-5)
    for folder in FOLDERS:
        torch.testing.assert_close(weights(ours / folder), weights(theirs / folder), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_two_processes_in_shards_train_as_one(alone, in_shards):
    close(in_shards, alone)
    norms = column(alone, "grad_norm")
    np.testing.assert_allclose(column(in_shards, "grad_norm"), norms, rtol=1e-4)
    assert max(norms) > OPTIONS["overrides"]["clip_gradient"]  # clipping was at work


def test_what_is_saved_is_a_plain_model(in_shards):
    for folder in FOLDERS:
        model = TinyDetector.from_pretrained(in_shards / folder)
        assert model.config.architectures == ["TinyDetector"]
        assert weights(in_shards / folder).keys() == model.state_dict().keys()


@pytest.mark.slow
def test_a_killed_run_in_shards_resumes_exactly(tiny_data, in_shards, tmp_path):
    output = tmp_path / "run"
    finish(*start_two(tiny_data, output, SHARDS, die_at=5, **OPTIONS), killed=True)
    assert (output / "checkpoints" / "checkpoint-4").is_dir()
    finish(*start_two(tiny_data, output, SHARDS, resume=True, **OPTIONS))
    assert losses(output) == losses(in_shards)
    for folder in FOLDERS:
        ours, theirs = weights(output / folder), weights(in_shards / folder)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), folder


@pytest.mark.slow
def test_a_run_in_shards_goes_on_without_and_the_reverse(tiny_data, alone, tmp_path):
    finish(*start_two(tiny_data, tmp_path / "a", SHARDS, die_at=5, **OPTIONS), killed=True)
    finish(start(tiny_data, tmp_path / "a", resume=True, **OPTIONS))
    close(tmp_path / "a", alone)
    finish(start(tiny_data, tmp_path / "b", die_at=5, **OPTIONS), killed=True)
    finish(*start_two(tiny_data, tmp_path / "b", SHARDS, resume=True, **OPTIONS))
    close(tmp_path / "b", alone)


@pytest.mark.slow
def test_focus_detr_in_shards_of_its_parts_trains_and_evaluates_as_one(tiny_data, tmp_path):
    # A small rate: Adam would blow the last bits of the sums up to steps of their own.
    recipe = {"epochs": 1, "clip_gradient": 0.0, "learning_rate": 1e-6, "batch_size": 2}
    options = {"focus_detr": 4, "evaluator": False, "overrides": recipe}
    names = "ResNetStage,FeedForward"
    parts = {"FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "FSDP_TRANSFORMER_CLS_TO_WRAP": names}
    finish(start(tiny_data, tmp_path / "one", **options))
    finish(*start_two(tiny_data, tmp_path / "two", SHARDS | parts, **options))
    for name in ("loss", "grad_norm"):
        ours, theirs = column(tmp_path / "two", name), column(tmp_path / "one", name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-3)
    for name in ("eval_AP", "eval_foreground_recall"):
        assert column(tmp_path / "two", name) == column(tmp_path / "one", name) != []


def say(environment: dict[str, str], monkeypatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"FSDP_VERSION": "1"}, "FSDP version 1: not supported; say --fsdp_version 2"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, "--fsdp_offload_params: not supported; leave it out"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "--set gradient_checkpointing=true"),
        ({"FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP"}, "SIZE_BASED_WRAP: not supported"),
    ],
)
def test_what_sharding_cannot_do_is_refused(said, message, monkeypatch):
    say(SHARDS | said, monkeypatch)
    with pytest.raises(FocusDetrError, match=message):
        sharding.sharding_plugin()


def test_classes_that_cannot_be_units_are_refused(monkeypatch):
    wrap = {"FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "FSDP_TRANSFORMER_CLS_TO_WRAP": "NoSuchLayer"}
    say(SHARDS | wrap, monkeypatch)
    monkeypatch.setattr(sharding, "init_device_mesh", lambda *_: None)
    accelerator = SimpleNamespace(device=torch.device("cpu"), num_processes=2)
    with pytest.raises(FocusDetrError, match="NoSuchLayer: not of this model, which has .*LayerNorm"):
        sharding.shard(tiny_detector(), sharding.sharding_plugin(), accelerator)
    with pytest.raises(FocusDetrError, match="NoSuchLayer: weights of one of these are used outside"):
        with sharding.sharding_advice():
            raise RuntimeError("aten.addmm.default got mixed torch.Tensor and DTensor, need to convert")
    with pytest.raises(RuntimeError, match="another"), sharding.sharding_advice():
        raise RuntimeError("another")


def test_fp16_is_refused_in_shards(monkeypatch):
    recipe = load_recipe(RECIPE).replace({"precision": "fp16"})
    check_precision(recipe, torch.device("cuda"))
    say(SHARDS, monkeypatch)
    with pytest.raises(FocusDetrError, match="not with a model in shards"):
        check_precision(recipe, torch.device("cuda"))


def test_a_skeleton_holds_no_weights_until_it_is_filled():
    model = tiny_detector()
    skeleton = sharding.Skeleton(model)
    assert all(each.device.type == "meta" for each in skeleton.model.parameters())
    state = model.state_dict()
    copies = [skeleton.filled(state), skeleton.filled(state)]
    for copy in copies:
        assert type(copy) is TinyDetector
        torch.testing.assert_close(dict(copy.state_dict()), dict(state), rtol=0, atol=0)
    assert all(each.device.type == "meta" for each in skeleton.model.parameters())
