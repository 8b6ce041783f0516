"""What queries are told of those before them."""

import pytest
import torch

from focus_detr.errors import FocusDetrError
from focus_detr.models.hosts.precedence import Precedence, overlap_with_earlier
from helpers.small_models import batch, image, small_model

BOXES = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.4, 0.2], [0.6, 0.5, 0.4, 0.4], [0.5, 0.5, 0.4, 0.4]])


def test_only_boxes_before_and_of_the_same_class_count():
    overlap = overlap_with_earlier(torch.tensor([[0, 0, 1, 0], [0, 1, 0, 1]]), BOXES.expand(2, -1, -1))
    torch.testing.assert_close(overlap, torch.tensor([[0, 0.5, 0, 1], [0, 0, 0.6, 0.5]]))


def test_boxes_apart_and_empty_ones_overlap_nothing():
    boxes = torch.tensor(
        [[[0.1, 0.1, 0.1, 0.1], [0.9, 0.1, 0.1, 0.1], [0.1, 0.1, 0.0, 0.0], [0.1, 0.1, 0.0, 0.0]]]
    )
    assert not overlap_with_earlier(torch.zeros(1, 4, dtype=torch.int64), boxes).any()


def test_nothing_is_said_at_first_and_it_can_be_learned():
    precedence = Precedence(8)
    precedence.start()
    logits = torch.zeros(1, 4, 3)
    assert not precedence(logits, BOXES[None]).any()
    precedence(logits, BOXES[None]).sum().backward()
    assert precedence.told.layers[-1].weight.grad.any()


@torch.no_grad()
def test_a_detector_s_queries_are_told_image_by_image():
    options = {"content_from_memory": True, "precedence": True}
    model = small_model(host_options=options)
    pixels, mask = batch([image(64, 96), image(48, 64, seed=1)])
    told = model(pixels, mask)
    for parameter in model.host.precedence.parameters():
        parameter.zero_()
    assert (model(pixels, mask).logits - told.logits).abs().max() > 1e-6


def test_proposals_may_repeat_themselves_where_queries_are_told():
    labels = [{"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.4, 0.5, 0.3, 0.4]]).double()}]
    labels[0]["size"] = torch.tensor([64, 96])
    for told in (False, True):
        model = small_model(host_options={"content_from_memory": True, "precedence": told})
        parts = model(image(64, 96)[None], labels=labels).loss_dict
        assert (parts["loss_class_enc"] == 0) == told and parts["loss_bbox_enc"] > 0


def test_boxes_from_cells_are_refused_where_a_policy_has_boxes_of_its_own():
    with pytest.raises(FocusDetrError, match=r"boxes_from_cells.*'sparse' has boxes of its own"):
        small_model(host_options={"boxes_from_cells": True}, token_policy="sparse")
