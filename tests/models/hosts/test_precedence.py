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


def test_proposals_are_taught_one_to_many_where_queries_are_told():
    labels = [{"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.4, 0.5, 0.3, 0.4]]).double()}]
    labels[0]["size"] = torch.tensor([64, 96])
    found = {}
    for told in (False, True):
        model = small_model(host_options={"content_from_memory": True, "precedence": told})
        found[told] = model(image(64, 96)[None], labels=labels).loss_dict
    # The decoder's losses are one-to-one all the same.
    assert found[True]["loss_class_enc"] != found[False]["loss_class_enc"]
    assert found[True].keys() == found[False].keys()


def test_of_proposals_on_one_object_none_unlearns_it():
    from focus_detr.losses.criterion import Weights
    from focus_detr.losses.objective import Objective
    from focus_detr.structures.memory import DecoderOutput
    from focus_detr.structures.queries import Queries

    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.22, 0.2], [0.1, 0.1, 0.1, 0.1]]])
    labels = [{"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2]])}]
    for repeat in (False, True):
        logits = torch.zeros(1, 3, 2, requires_grad=True)
        queries = Queries(torch.zeros(1, 3, 4), boxes, logits, boxes, None)
        objective = Objective(Weights(), Weights(), proposals_repeat=repeat)
        decoded = DecoderOutput([], [], logits=[logits.detach()], boxes=[boxes], queries=queries)
        objective(decoded, labels)["loss_class_enc"].backward()
        rises = (logits.grad[0, :, 1] < 0).tolist()
        assert rises == ([True, True, False] if repeat else [True, False, False])


def test_boxes_from_cells_are_refused_where_a_policy_has_boxes_of_its_own():
    with pytest.raises(FocusDetrError, match=r"boxes_from_cells.*'sparse' has boxes of its own"):
        small_model(host_options={"boxes_from_cells": True}, token_policy="sparse")
