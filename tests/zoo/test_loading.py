"""Loading a model in the precision that is asked for."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from focus_detr import Predictor
from focus_detr.errors import FocusDetrError

PICTURE = Path(__file__).parents[2] / "examples/blood-cells/BloodImage_00007.jpg"


@pytest.mark.parametrize(("dtype", "pixels"), [("bfloat16", 4.0), ("float16", 1.5)])
def test_in_half_precision_a_trained_model_finds_the_same(dtype, pixels):
    full, half = (
        Predictor.from_pretrained("blood-cells", dtype=name).detect([Image.open(PICTURE)], threshold=0.33)[0]
        for name in ("float32", dtype)
    )
    assert len(full) == len(half) and sorted(full.class_names) == sorted(half.class_names)
    for box, name in zip(full.boxes_xyxy, full.class_names, strict=True):
        same = half.boxes_xyxy[[other == name for other in half.class_names]]
        assert np.abs(same - box).max(1).min() < pixels
    np.testing.assert_allclose(np.sort(full.scores), np.sort(half.scores), atol=0.03)


@pytest.mark.parametrize("dtype", ["float12", "int8"])
def test_no_weights_of_other_dtypes(dtype):
    # The folder is whole, and is not blamed.
    with pytest.raises(FocusDetrError, match=f"dtype='{dtype}': weights cannot have it; use one of float32"):
        Predictor.from_pretrained("blood-cells", dtype=dtype)
