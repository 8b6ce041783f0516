"""A checkpoint's files: one that is damaged, foreign or missing is named, with the way to go on."""

import pickle
import re
import shutil
from pathlib import Path

import pytest
import torch

from focus_detr.disk import only_run
from focus_detr.errors import FocusDetrError, NotWrittenError
from focus_detr.training import train
from focus_detr.training.checkpoints import replaced_folder
from helpers.full_disk import room_for
from helpers.tiny_training import finish, losses, start, tiny_detector

NAMES = ["optimizer.pt", "scheduler.pt", "rng_state.pth", "ema.pt", "model.safetensors", "trainer_state.json"]


@pytest.fixture(scope="module")
def killed(tiny_data, tmp_path_factory) -> Path:
    """A run with two checkpoints."""
    output = tmp_path_factory.mktemp("killed") / "run"
    finish(start(tiny_data, output, die_at=5), killed=True)
    assert {path.name for path in (output / "checkpoints").iterdir()} == {"checkpoint-3", "checkpoint-4"}
    return output


def resume(data: Path, output: Path):
    return train(
        data,
        model=tiny_detector(),
        output=output,
        resume=True,
        device="cpu",
        evaluator=lambda model: {"AP": 0.0},
    )


def foreign(path: Path) -> None:
    """What the file of another run might hold: readable, and wrong."""
    state = torch.load(path, weights_only=True)
    if path.name == "optimizer.pt":
        first = next(iter(state["state"].values()))
        first["exp_avg"] = torch.zeros(3, 5)
    elif path.name == "scheduler.pt":
        state["base_lrs"] = [0.5 for _ in state["base_lrs"]]
    else:
        state.pop(next(reversed(state)))
    torch.save(state, path)


WRONGS = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100] if path.stat().st_size > 200 else b""),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a checkpoint"),
    "missing": lambda path: path.unlink(),
    "another thing": lambda path: torch.save(["a"], path),
}


@pytest.mark.parametrize("wrong", WRONGS)
@pytest.mark.parametrize("name", NAMES)
def test_an_unusable_file_is_named(wrong, name, killed, tiny_data, tmp_path):
    output = shutil.copytree(killed, tmp_path / "run")
    WRONGS[wrong](output / "checkpoints" / "checkpoint-4" / name)
    with pytest.raises(FocusDetrError, match=rf"checkpoint-4/{re.escape(name)}: .*goes on from checkpoint-3"):
        resume(tiny_data, output)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "ema.pt"])
def test_a_file_of_another_run_is_named(name, killed, tiny_data, tmp_path):
    output = shutil.copytree(killed, tmp_path / "run")
    foreign(output / "checkpoints" / "checkpoint-4" / name)
    with pytest.raises(FocusDetrError, match=rf"checkpoint-4/{re.escape(name)}: .*not of this run"):
        resume(tiny_data, output)


def test_a_file_that_would_run_code_is_refused_without_the_advice_to_let_it(killed, tiny_data, tmp_path):
    output, ran = shutil.copytree(killed, tmp_path / "run"), tmp_path / "ran"

    class Code:
        def __reduce__(self):
            return Path.touch, (ran,)

    (output / "checkpoints" / "checkpoint-4" / "ema.pt").write_bytes(pickle.dumps(Code(), protocol=2))
    with pytest.raises(FocusDetrError, match=r"checkpoint-4/ema.pt: .*could run code") as refused:
        resume(tiny_data, output)
    assert "weights_only" not in str(refused.value) and not ran.exists()


@pytest.mark.slow
def test_the_way_that_is_told_leads_on(killed, tiny_data, tmp_path):
    output = shutil.copytree(killed, tmp_path / "run")
    shutil.rmtree(output / "checkpoints" / "checkpoint-4")
    finish(start(tiny_data, output, resume=True))
    finish(start(tiny_data, tmp_path / "undisturbed"))
    assert losses(output) == losses(tmp_path / "undisturbed")


def test_without_an_earlier_checkpoint_the_way_leads_to_the_beginning(killed, tiny_data, tmp_path):
    output = shutil.copytree(killed, tmp_path / "run")
    shutil.rmtree(output / "checkpoints" / "checkpoint-3")
    (output / "checkpoints" / "checkpoint-4" / "ema.pt").write_bytes(b"")
    with pytest.raises(FocusDetrError, match="goes on from the run's beginning"):
        resume(tiny_data, output)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "preprocessor_config.json"])
def test_a_named_models_own_files_are_named_too(name, tiny_data, tmp_path):
    recipe = {"max_steps": 1, "epochs": None, "batch_size": 2, "workers": 0, "eval_split": None}
    recipe |= {"shortest_edge": 32, "longest_edge": 32, "augmentation": "none"}
    options = {"output": tmp_path / "run", "device": "cpu"}
    train(tiny_data, model="focus-detr-nano", recipe=recipe, **options)
    checkpoint = tmp_path / "run" / "checkpoints" / "checkpoint-1"
    (checkpoint / name).write_bytes((checkpoint / name).read_bytes()[:50])
    with pytest.raises(FocusDetrError, match=rf"checkpoint-1.*{re.escape(name)}(.|\n)*\. Delete the folder"):
        train(tiny_data, resume=True, **options)


@pytest.mark.parametrize("room", [500, pytest.param(5_000, marks=pytest.mark.slow)])
def test_a_checkpoint_that_has_no_room_leaves_those_before_to_go_on_from(room, killed, tiny_data, tmp_path):
    output = shutil.copytree(killed, tmp_path / "run")
    with room_for(room), pytest.raises(NotWrittenError, match=rf"{output}: cannot be written to .*--resume"):
        resume(tiny_data, output)
    assert {"checkpoint-3", "checkpoint-4"} == {path.name for path in (output / "checkpoints").iterdir()}
    finish(start(tiny_data, output, resume=True))
    finish(start(tiny_data, tmp_path / "undisturbed"))
    assert losses(output) == losses(tmp_path / "undisturbed")


def test_two_runs_do_not_share_a_folder(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr("focus_detr.training.run._PATIENCE_S", 0.0)
    (tmp_path / "run").mkdir()
    with only_run(tmp_path / "run"):
        with pytest.raises(FocusDetrError, match="another run writes there"):
            train(tiny_data, model=tiny_detector(), output=tmp_path / "run", device="cpu")
    assert not any((tmp_path / "run").iterdir())


def test_a_model_whose_place_was_being_changed_when_the_run_was_killed_comes_back(tmp_path):
    before = tmp_path / ".best.old"
    before.mkdir()
    (before / "weights").write_text("those before")
    with pytest.raises(KeyError), replaced_folder(tmp_path / "best") as writing:
        (writing / "weights").write_text("half")
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
    assert (tmp_path / "best" / "weights").read_text() == "those before"
