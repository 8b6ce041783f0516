"""The bundled model of everyday things finds them, without suppression, by looking at where they are."""

from pathlib import Path

import pytest
from PIL import Image

from focus_detr import FocusDetr
from focus_detr.structures.boxes import cxcywh_to_xyxy

EXAMPLES = Path(__file__).parents[2] / "examples/everyday"
SEEN = {
    "street": {"person": 8, "car": 3, "bicycle": 1},
    "tennis": {"person": 2, "sports ball": 1},
    "desk": {"tv": 2, "laptop": 1, "keyboard": 1, "mouse": 1},
    "couch": {"person": 1, "dog": 1, "couch": 1},
}


@pytest.fixture(scope="module")
def model():
    return FocusDetr("everyday", device="cpu")


@pytest.mark.parametrize("picture", SEEN)
def test_things_in_the_example_pictures_are_found(model, picture):
    (found,) = model.predict(EXAMPLES / f"{picture}.jpg")
    counts = found.counts()
    assert all(counts.get(name, 0) >= least for name, least in SEEN[picture].items()), counts
    assert model.predictor.processor.nms_threshold is None  # each is said once all the same
    if picture != "street":
        assert counts == SEEN[picture]


def test_most_of_what_it_finds_it_looked_at(model):
    image = Image.open(EXAMPLES / "street.jpg").convert("RGB")
    output = model.predictor.run([image])
    indices, counted = output.plan.kept(0)
    assert counted.sum() < 0.31 * output.memory.shape[1]
    kept = set(indices[0][counted[0]].tolist())
    height, width = output.spatial_shapes[0]  # the finest level
    sure = cxcywh_to_xyxy(output.pred_boxes[0][output.logits[0].amax(-1).sigmoid() > 0.5])
    looked = 0
    for left, top, right, bottom in sure.clamp(0, 1).tolist():
        columns = range(int(left * width), min(width, int(right * width) + 1))
        rows = range(int(top * height), min(height, int(bottom * height) + 1))
        looked += any(row * width + column in kept for row in rows for column in columns)
    assert looked >= 0.9 * len(sure) > 10
