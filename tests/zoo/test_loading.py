"""Loading a model in the precision that is asked for."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from focus_detr import Predictor
from focus_detr.errors import FocusDetrError
from focus_detr.zoo.loading import load_model

PICTURE = Path(__file__).parents[2] / "examples/blood-cells/BloodImage_00007.jpg"


@pytest.mark.parametrize(("dtype", "pixels", "score"), [("bfloat16", 4.0, 0.06), ("float16", 2.0, 0.04)])
def test_in_half_precision_a_trained_model_finds_the_same(dtype, pixels, score):
    full, half = (
        Predictor.from_pretrained("blood-cells", dtype=name).detect([Image.open(PICTURE)], threshold=0.25)[0]
        for name in ("float32", dtype)
    )
    # Rounding moves a score, so one near the threshold may be found by one of the two alone.
    for found, among in ((full, half), (half, full)):
        sure = [index for index, value in enumerate(found.scores) if value > 0.25 + score]
        assert len(sure) >= 10
        for index in sure:
            same = np.array([other == found.class_names[index] for other in among.class_names])
            same &= np.abs(among.boxes_xyxy - found.boxes_xyxy[index]).max(1) < pixels
            assert np.abs(among.scores[same] - found.scores[index]).min(initial=1) < score


@pytest.mark.parametrize("dtype", ["float12", "int8"])
def test_no_weights_of_other_dtypes(dtype):
    # The folder is whole, and is not blamed.
    with pytest.raises(FocusDetrError, match=f"dtype='{dtype}': weights cannot have it; use one of float32"):
        Predictor.from_pretrained("blood-cells", dtype=dtype)


def test_threads_that_load_at_once_get_what_they_ask_for_and_leave_nothing_behind(tiny_model):
    dtypes = [torch.float32, torch.float16] * 4
    alone = {dtype: load_model(tiny_model, dtype).state_dict() for dtype in dtypes[:2]}
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as threads:
            loaded = list(threads.map(lambda dtype: load_model(tiny_model, dtype).state_dict(), dtypes))
    finally:
        sys.setswitchinterval(interval)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
    assert before == torch.float32
    for dtype, weights in zip(dtypes, loaded, strict=True):
        for key, value in alone[dtype].items():
            assert weights[key].dtype == value.dtype and torch.equal(weights[key], value), key
