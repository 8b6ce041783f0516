"""A run killed at any moment and resumed gives the losses of a run left alone, bit for bit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from focus_detr.errors import FocusDetrError
from focus_detr.training import train
from helpers.tiny_training import RECIPE, finish, losses, start, tiny_detector


@pytest.fixture(scope="module")
def undisturbed(tiny_data, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(start(tiny_data, output))
    return output


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def steps(output: Path) -> list[str]:
    return [line.split(",")[0] for line in (output / "metrics.csv").read_text().splitlines()]


@pytest.mark.parametrize(
    "death",
    [
        {"die_at": 5},  # one step after the checkpoint of step 4, in the middle of the second epoch
        {"die_saving": 4},  # while that checkpoint is being written: the one of step 3 must serve
        pytest.param({"die_saving": 9}, marks=pytest.mark.slow),  # after the last evaluation
        pytest.param({"die_at": 1}, marks=pytest.mark.slow),  # before there is any checkpoint
    ],
    ids=["mid-epoch", "while saving", "at the end", "at the start"],
)
def test_killed_run_resumes_exactly(death, tiny_data, undisturbed, tmp_path):
    output = tmp_path / "run"
    finish(start(tiny_data, output, **death), killed=True)
    finish(start(tiny_data, output, resume=True))

    assert losses(output) == losses(undisturbed)
    for folder in ("best", "last", "checkpoints/checkpoint-9"):
        ours, theirs = weights(output / folder), weights(undisturbed / folder)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), folder
    assert steps(output) == steps(undisturbed)
    assert [path.name for path in (output / "checkpoints").iterdir()] == ["checkpoint-9"]


@pytest.mark.slow
def test_focus_detr_resumes_exactly(tiny_data, tmp_path):
    options = {"focus_detr": 4, "overrides": {"epochs": 2, "workers": 1}}
    finish(start(tiny_data, tmp_path / "undisturbed", **options))
    finish(start(tiny_data, tmp_path / "run", die_at=5, **options), killed=True)
    finish(start(tiny_data, tmp_path / "run", resume=True, **options))
    assert losses(tmp_path / "run") == losses(tmp_path / "undisturbed")


@pytest.mark.slow
def test_a_preset_resumes_exactly(tiny_data, tmp_path):
    """Loaded from the checkpoint, what the recipe freezes is frozen still, and the optimizer's groups fit."""
    small = {"d_model": 16, "attention_heads": 2, "num_queries": 6, "num_fine_tokens": 4, "freeze_stages": 2}
    overrides = {"epochs": 2, "workers": 1, "backbone_weights": None, "model": small}
    options = {"model": "focus-detr-lite0", "overrides": overrides}
    finish(start(tiny_data, tmp_path / "undisturbed", **options))
    finish(start(tiny_data, tmp_path / "run", die_at=4, **options), killed=True)
    finish(start(tiny_data, tmp_path / "run", resume=True, **options))
    assert losses(tmp_path / "run") == losses(tmp_path / "undisturbed")


def test_finished_run_is_left_as_it_is(tiny_data, undisturbed, tmp_path):
    before = {path: path.read_bytes() for path in undisturbed.rglob("*.safetensors")}
    result = train(tiny_data, model=tiny_detector(), output=undisturbed, resume=True, device="cpu")
    assert result.steps == 9
    assert {path: path.read_bytes() for path in undisturbed.rglob("*.safetensors")} == before


def test_a_run_is_never_overwritten_and_its_recipe_stays(tiny_data, undisturbed, tmp_path):
    model = tiny_detector()
    with pytest.raises(FocusDetrError, match="holds a run already; continue it with resume"):
        train(tiny_data, model=model, recipe=RECIPE, output=undisturbed, device="cpu")
    with pytest.raises(FocusDetrError, match="learning_rate would change"):
        train(tiny_data, model=model, output=undisturbed, resume=True, overrides={"learning_rate": 1.0})
    for folder in (tmp_path / "typo", tmp_path):  # not there, and empty
        with pytest.raises(FocusDetrError, match="there is no run to resume"):
            train(tiny_data, model=model, recipe=RECIPE, output=folder, resume=True)


def test_a_refused_start_leaves_nothing_behind(tiny_data, tmp_path):
    output = tmp_path / "run"
    refused = [
        {"overrides": {"train_split": "trian"}},
        {"overrides": {"eval_split": "evla"}},
        {"overrides": {"augmentation_options": {"nonsense": 1}}},
        {"model": "focus-detr-lite0", "overrides": {"model": {"nonsense": 1}}},
        {"model": tiny_detector(classes=["other"])},
    ]
    for options in refused:
        with pytest.raises(FocusDetrError):
            train(
                tiny_data, output=output, recipe=RECIPE, device="cpu", **{"model": tiny_detector(), **options}
            )
        assert not (output / "recipe.yaml").exists(), options
    train(
        tiny_data,
        model=tiny_detector(),
        output=output,
        recipe=RECIPE,
        device="cpu",
        overrides={"max_steps": 1},
    )
