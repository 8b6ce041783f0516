"""Models holding the fixtures' weights, made through the converter as a user would."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from focus_detr.convert import convert_checkpoint
from focus_detr.models import FocusDetrForObjectDetection

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from checkpoints import checkpoint  # noqa: E402

DATA = Path(__file__).parents[1] / "data" / "parity"
NAMES = ["focus_detr_r50", "focus_detr_swin_tiny_224", "dino_r50"]
_cache = {}


@pytest.fixture(params=NAMES)
def original(request, tmp_path_factory):
    """(name, model in float64, tensors of the original, conversion report)."""
    name = request.param
    if name not in _cache:
        folder = tmp_path_factory.mktemp(name)
        path = checkpoint(name, folder)
        report = convert_checkpoint(path, folder / "model")
        path.unlink()
        model = FocusDetrForObjectDetection.from_pretrained(folder / "model", dtype=torch.float64)
        _cache.clear()
        _cache[name] = (name, model, load_file(DATA / f"{name}.safetensors"), report)
    return _cache[name]
