"""Models holding the fixtures' weights, made through the converter as a user would."""

import pytest

from helpers.checkpoints import original_model

NAMES = ["focus_detr_r50", "focus_detr_swin_tiny_224", "dino_r50"]


@pytest.fixture(params=NAMES)
def original(request, tmp_path_factory):
    """(name, model in float64, tensors of the original, conversion report)."""
    return original_model(request.param, tmp_path_factory)
