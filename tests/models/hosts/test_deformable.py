"""Deformable DETR's hosts: how far from the border the logits of coordinates stay."""

import pytest
import torch

from helpers.small_models import batch, image, small_model


@pytest.mark.parametrize(
    ("fields", "eps"),
    [
        ({"host": "deformable-detr"}, 1e-5),
        ({"host": "deformable-detr", "host_options": {"logit_eps": 1e-3}}, 1e-3),
        ({"host": "dn-deformable-detr"}, 1e-3),
    ],
)
@torch.no_grad()
def test_logits_of_coordinates_stay_finite(fields, eps):
    model = small_model(token_policy="dense", decoder_layers=1, **fields)
    host = model.host
    start = host.query_point.bias if fields["host"] == "deformable-detr" else host.query_anchor.weight
    start.fill_(1000.0)  # in the corner, where no layer moves it from
    for parameter in host.box_heads.parameters():
        parameter.zero_()
    centres = model(*batch([image(64, 96)])).pred_boxes[..., :2]
    torch.testing.assert_close(centres, torch.full_like(centres, 1 / (1 + eps)), rtol=0, atol=1e-9)
