"""Box forms and overlaps."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from focus_detr.structures.boxes import cxcywh_to_xyxy, generalized_iou, xyxy_to_cxcywh

numbers = st.floats(0, 1, allow_nan=False)
corners = st.tuples(numbers, numbers, numbers, numbers).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]) + 0.01, max(b[1], b[3]) + 0.01)
)


def written_out(a, b):
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return shared / (union + 1e-6) - (hull - union) / (hull + 1e-6)


@given(corners, corners)
def test_generalized_iou(a, b):
    found = generalized_iou(torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([written_out(a, b)], dtype=torch.float64))


@given(corners)
def test_round_trip(box):
    box = torch.tensor(box, dtype=torch.float64)
    torch.testing.assert_close(cxcywh_to_xyxy(xyxy_to_cxcywh(box)), box)
    assert (xyxy_to_cxcywh(box)[2:] > 0).all()
