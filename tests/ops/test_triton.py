import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from focus_detr.ops import dispatch

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed (pip install triton==3.7.1)"
)


@pytest.mark.slow
def test_kernels():
    # In a process of their own: whether Triton interprets is settled when it is first imported.
    kernels = Path(__file__).with_name("triton_kernels.py")
    environment = dict(os.environ) if torch.cuda.is_available() else {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(kernels)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "passed" in done.stdout and "skipped" not in done.stdout, done.stdout


def test_is_the_choice_on_a_gpu_where_it_is_exact_enough(monkeypatch):
    def pick(dtype):
        return dispatch._pick(None, "cuda", dtype, "eager", True)

    assert pick(torch.bfloat16) == ("triton", "")
    assert pick(torch.float64) == ("reference", "")
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    name, problem = pick(torch.float32)
    assert name == "reference" and "deterministic" in problem
