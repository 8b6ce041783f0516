"""Models holding the fixtures' weights, made through the converter as a user would."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.checkpoints import forget_kept_model, kept_model_forgets_gradients, original_model

NAMES = ["focus_detr_r50", "focus_detr_swin_tiny_224", "dino_r50"]

_LOG = """
import sys, torch
from safetensors.torch import load_file, save_file
for path in map(str.strip, sys.stdin):
    save_file({"x": torch.log(load_file(path)["x"])}, path + ".log")
    print(flush=True)
"""


@pytest.fixture(params=[*NAMES[:2], pytest.param(NAMES[2], marks=pytest.mark.slow)])
def original(request, tmp_path_factory):
    """(name, model in float64, tensors of the original, conversion report)."""
    return original_model(request.param, tmp_path_factory)


@pytest.fixture(autouse=True)
def no_gradients_are_kept(memory_given_back):
    """A model in float64 stays from test to test; its gradients are as large, and need not."""
    yield
    kept_model_forgets_gradients()


@pytest.fixture(scope="package", autouse=True)
def no_model_is_kept():
    """For the tests of other folders."""
    yield
    forget_kept_model()


@pytest.fixture(scope="package")
def compatible_log(tmp_path_factory):
    """float32 logarithms of a process in MKL's mode of that name, set before MKL is first used."""
    path = tmp_path_factory.mktemp("logarithms") / "x.safetensors"
    with subprocess.Popen(
        [sys.executable, "-c", _LOG],
        env={**os.environ, "MKL_CBWR": "COMPATIBLE"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:

        def log(x):
            save_file({"x": x.contiguous()}, path)
            process.stdin.write(f"{path}\n")
            assert process.stdout.readline() == "\n", "the process of logarithms has ended"
            return load_file(f"{path}.log")["x"].clone()  # the file is written again

        yield log
        process.stdin.close()


@pytest.fixture(autouse=True)
def logarithms_of_any_processor(monkeypatch, compatible_log):
    """float32 logarithms as the fixtures have them, on every processor.

    MKL's differ in the last bit from one kind of processor to the next. Proposals start from the logarithm of
    their anchors, also where all else is float64, and that bit grows to 2e-5 in the decoder's logits. MKL's
    "compatible" mode gives the same bits everywhere, those of the fixtures; it would make the rest of a test
    four times as slow, hence a process of its own.
    """
    plain = torch.log

    def log(x):
        return compatible_log(x) if x.dtype is torch.float32 and not x.requires_grad else plain(x)

    monkeypatch.setattr(torch, "log", log)
