"""The guide's own task works as it says: from the command line, with its options; and tasks have a state."""

import csv
import re
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from focus_detr.cli import app
from focus_detr.errors import FocusDetrError
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.training import train
from focus_detr.training.tasks import TASKS, Task
from helpers.tiny_training import RECIPE, small_focus_detr, tiny_detector, write_dataset

GUIDE = Path(__file__).parents[1] / "docs" / "new-task.md"


@pytest.fixture
def module(tmp_path, monkeypatch):
    (source,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(source.splitlines()) < 60
    (tmp_path / "teacher_task.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(TASKS, "_classes", dict(TASKS._classes))
    yield
    sys.modules.pop("teacher_task", None)


def test_the_guides_task_trains(module, tmp_path):
    write_dataset(tmp_path / "data")
    small_focus_detr(2).save_pretrained(tmp_path / "trained")
    FocusDetrImageProcessor().save_pretrained(tmp_path / "trained")
    settings = {"max_steps": 2, "batch_size": 2, "shortest_edge": 64, "longest_edge": 64, "workers": 0}
    settings |= {"log_steps": 1, "eval_split": "null", "plugins": "[teacher_task]", "task": "teacher"}
    settings["task_options"] = f"{{weight: 2.0, teacher: {tmp_path / 'trained'}}}"
    command = ["train", tmp_path / "data", "--model", tmp_path / "trained", "--output", tmp_path / "run"]
    command += [
        "--device",
        "cpu",
        *(part for key in settings for part in ("--set", f"{key}={settings[key]}")),
    ]
    result = CliRunner().invoke(app, [str(each) for each in command], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # The teacher is where the student starts, but sees with the tokens of a budget of its own.
    assert len(rows) == 2 and all(0 <= float(row["loss_teacher"]) < 1 for row in rows)
    for row in rows:
        parts = sum(float(value) for name, value in row.items() if name.startswith("loss_") and value)
        assert float(row["loss"]) == pytest.approx(parts, rel=1e-4)


def test_unknown_tasks_and_options_are_refused_before_anything_is_written(tmp_path):
    write_dataset(tmp_path / "data")
    for fields, message in (
        ({"task": "detect"}, "task='detect': not known .did you mean 'detection'"),
        ({"task_options": {"weight": 1.0}}, "task_options: unknown key 'weight'"),
        ({"plugins": ["no_such_module"]}, "there is no module 'no_such_module'"),
    ):
        with pytest.raises(FocusDetrError, match=message):
            train(
                tmp_path / "data",
                model=tiny_detector(),
                recipe={**RECIPE, **fields},
                output=tmp_path / "run",
                device="cpu",
            )
        assert not (tmp_path / "run").exists()


def test_a_tasks_state_is_kept_and_its_random_numbers_come_again(tmp_path, monkeypatch):
    monkeypatch.setattr(TASKS, "_classes", dict(TASKS._classes))
    drawn = {}

    @TASKS.register("counting")
    class Counting(Task):
        count = 0

        def __call__(self, model, batch, step):
            self.count += 1
            assert self.count == step.number + 1
            value = torch.rand((), generator=step.generator).item()
            assert drawn.setdefault(step.number, value) == value
            outputs = model(**batch)
            if len(drawn) == 5 and step.number == 4 and not stopped:
                stopped.append(True)
                raise KeyboardInterrupt
            return outputs.loss, outputs.loss_dict

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state):
            self.count = state["count"]

    stopped = []
    write_dataset(tmp_path / "data")
    options = {"model": tiny_detector(), "output": tmp_path / "run", "device": "cpu"}
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "data", recipe={**RECIPE, "task": "counting", "eval_split": None}, **options)
    train(tmp_path / "data", resume=True, **options)
    assert len(drawn) == len(set(drawn.values())) == 9
