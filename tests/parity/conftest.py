"""Models holding the fixtures' weights, made through the converter as a user would."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.checkpoints import kept_model_forgets_gradients, original_model

NAMES = ["focus_detr_r50", "focus_detr_swin_tiny_224", "dino_r50"]

_LOG = """
import sys, torch
from safetensors.torch import load_file, save_file
save_file({"x": torch.log(load_file(sys.argv[1])["x"])}, sys.argv[2])
"""


@pytest.fixture(params=NAMES)
def original(request, tmp_path_factory):
    """(name, model in float64, tensors of the original, conversion report)."""
    return original_model(request.param, tmp_path_factory)


@pytest.fixture(autouse=True)
def no_gradients_are_kept(memory_given_back):
    """A model in float64 stays from test to test; its gradients are as large, and need not."""
    yield
    kept_model_forgets_gradients()


@pytest.fixture(autouse=True)
def logarithms_of_any_processor(monkeypatch, tmp_path):
    """float32 logarithms as the fixtures have them, on every processor.

    MKL's differ in the last bit from one kind of processor to the next. Proposals start from the logarithm of
    their anchors, also where all else is float64, and that bit grows to 2e-5 in the decoder's logits. MKL's
    "compatible" mode gives the same bits everywhere, those of the fixtures; it has to be set before MKL is
    first used, hence the process, and would make the rest of a test four times as slow.
    """
    plain = torch.log

    def log(x):
        if x.dtype is not torch.float32 or x.requires_grad:
            return plain(x)
        given, result = tmp_path / "x.safetensors", tmp_path / "log.safetensors"
        save_file({"x": x.contiguous()}, given)
        subprocess.run(
            [sys.executable, "-c", _LOG, given, result],
            env={**os.environ, "MKL_CBWR": "COMPATIBLE"},
            check=True,
        )
        return load_file(result)["x"]

    monkeypatch.setattr(torch, "log", log)
