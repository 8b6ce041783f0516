"""An image is an island: its result depends neither on its batch nor on padding."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from focus_detr.models.backbones.backbone import backbone_config
from helpers.small_models import DETR, SWIN, batch, image, reactivated_model, small_model

LITE = backbone_config("efficientnet-lite0")
YOLOX = backbone_config("yolox-nano")
MODELS = {
    "resnet": lambda: small_model(),
    "swin": lambda: small_model(SWIN),
    "lite": lambda: small_model(LITE),
    "yolox": lambda: small_model(YOLOX),
    "cells": lambda: small_model(
        host_options={"content_from_memory": True, "boxes_from_cells": True, "precedence": True},
        neck_norm=False,
    ),
    "dense": lambda: small_model(token_policy="dense"),
    "interleaved": lambda: small_model(token_policy="interleaved"),
    "interleaved, key-aware": lambda: small_model(
        token_policy="interleaved",
        policy_options={"high_levels": 2, "blocks": 1, "key_aware": True},
        host_options={"key_aware": True, "own_keys": False},
    ),
    "salience": lambda: small_model(token_policy="salience"),
    "salience-detr": lambda: small_model(host="salience-detr", token_policy="salience"),
    "sparse": lambda: small_model(token_policy="sparse"),
    "deformable": lambda: small_model(host="deformable-detr", token_policy="dense"),
    "two-stage": lambda: small_model(
        host="deformable-detr", host_options={"two_stage": True}, token_policy="dense"
    ),
    "dn-deformable": lambda: small_model(host="dn-deformable-detr", token_policy="focus"),
    "detr": lambda: small_model(**DETR, token_policy="full-attention"),
    "poll-and-pool": lambda: small_model(**DETR, token_policy="poll-and-pool"),
    "frozen values": lambda: small_model(quirks={"frozen_values": True}),
    "reactivation": lambda: reactivated_model(),
}
_models = {}


def model_of(name):
    if name not in _models:
        _models[name] = MODELS[name]()
    return _models[name]


def alone(model, picture):
    return model(picture[None])


@torch.no_grad()
def check_same(model, pictures, extra):
    pixels, mask = batch(pictures, extra)
    together = model(pixels, mask)
    for i, picture in enumerate(pictures):
        single = alone(model, picture)
        queries = single.logits.shape[1]
        torch.testing.assert_close(together.logits[i, :queries], single.logits[0], rtol=0, atol=1e-9)
        torch.testing.assert_close(together.pred_boxes[i, :queries], single.pred_boxes[0], rtol=0, atol=1e-9)
        # Queries beyond an image's tokens can never be detections.
        assert (together.logits[i, queries:] <= torch.finfo(torch.float64).min).all()
        check_same_tokens(together, single, i)


def check_same_tokens(together, single, i):
    # Tokens are numbered on the canvas in a batch, and on the image alone.
    canvas_to_image, start = {}, 0
    offset = 0
    for (height, width), (h, w) in zip(
        together.spatial_shapes, together.level_sizes[i].tolist(), strict=True
    ):
        for y in range(h):
            for x in range(w):
                canvas_to_image[offset + y * width + x] = start + y * w + x
        offset, start = offset + height * width, start + h * w
    places = torch.tensor(list(canvas_to_image))
    if single.memory.shape[1] == len(places):  # else a policy made other tokens of them
        torch.testing.assert_close(together.memory[i, places], single.memory[0], rtol=0, atol=1e-9)
    if single.plan is None:
        return
    for layer in range(len(single.plan.counts)):
        kept, valid = together.plan.kept(layer)
        kept = [canvas_to_image[token] for token in kept[i][valid[i]].tolist()]
        assert kept == single.plan.kept(layer)[0][0].tolist()


sizes = st.tuples(st.integers(64, 150), st.integers(64, 150))


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(
    shapes=st.lists(sizes, min_size=2, max_size=3), extra=st.tuples(st.integers(0, 40), st.integers(0, 40))
)
def test_an_image_is_an_island(name, shapes, extra):
    check_same(model_of(name), [image(*shape, seed=i) for i, shape in enumerate(shapes)], extra)


def test_padding_alone_changes_nothing():
    check_same(model_of("resnet"), [image(96, 80)], (37, 70))


@pytest.mark.parametrize("name", ["resnet", "dense", "interleaved", "salience"])
def test_an_image_with_fewer_tokens_than_queries(name):
    model = small_model(num_queries=200, num_fine_tokens=100, token_policy=model_of(name).config.token_policy)
    check_same(model, [image(64, 64), image(130, 140, seed=1)], (0, 0))


@torch.no_grad()
def test_single_precision_agrees_to_rounding():
    model = small_model(dtype=torch.float32)
    pictures = [image(96, 128, 0, torch.float32), image(80, 70, 1, torch.float32)]
    together = model(*batch(pictures))
    for i, picture in enumerate(pictures):
        single = alone(model, picture)
        torch.testing.assert_close(together.pred_boxes[i], single.pred_boxes[0], rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_release_is_no_island():
    # What the corrected model is measured against: the same check fails with the quirks on.
    model = small_model(quirks="original", denoising_queries=0).train()
    pictures = [image(96, 128), image(80, 70, seed=1)]
    together = model(*batch(pictures))
    single = alone(model, pictures[1])
    assert (together.pred_boxes[1] - single.pred_boxes[0]).abs().max() > 1e-3
