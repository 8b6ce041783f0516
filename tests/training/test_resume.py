"""A run killed at any moment and resumed gives the losses of a run left alone, bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_training
import torch
from safetensors.torch import load_file

SOURCE = Path(__file__).parents[2] / "src"


def start(data: Path, output: Path, **options) -> subprocess.Popen:
    environment = {
        **os.environ,
        "PYTHONPATH": str(SOURCE),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [sys.executable, tiny_training.__file__, str(data), str(output), json.dumps(options)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen, killed: bool = False) -> str:
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == (-9 if killed else 0), printed
    return printed


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return tiny_training.write_dataset(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(start(data, output))
    return output


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    "death",
    [
        {"die_at": 5},  # one step after the checkpoint of step 4, in the middle of the second epoch
        {"die_saving": 4},  # while that checkpoint is being written: the one of step 3 must serve
    ],
    ids=["mid-epoch", "while saving"],
)
def test_killed_run_resumes_exactly(death, data, undisturbed, tmp_path):
    output = tmp_path / "run"
    finish(start(data, output, **death), killed=True)
    finish(start(data, output, resume=True))

    assert tiny_training.losses(output) == tiny_training.losses(undisturbed)
    for folder in ("best", "last", "checkpoints/checkpoint-9"):
        ours, theirs = weights(output / folder), weights(undisturbed / folder)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), folder
    steps = [line.split(",")[0] for line in (output / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == [
        line.split(",")[0] for line in (undisturbed / "metrics.csv").read_text().splitlines()[1:]
    ]
