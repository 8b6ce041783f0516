"""Sparse DETR's training losses are those of its plain description, whatever the pictures and objects."""

import pytest
import torch

from helpers.small_models import batch, image, labels, small_model
from helpers.sparse_detr import sparse_detr_losses

SIZES = {
    "one size": ((96, 128), (96, 128)),
    "padded in one direction each": ((96, 160), (128, 96)),
    "padded in both": ((160, 192), (101, 75)),
    # Its share of the larger one's count is more than all its tokens: padding is kept, and predicts.
    "much smaller": ((192, 224), (64, 48)),
    "three, odd sizes": ((50, 190), (131, 77), (64, 64)),
}


@pytest.fixture(scope="module")
def model():
    options = {
        "two_stage": True,
        "box_refinement": True,
        "class_proposals": True,
        "content_from_memory": True,
    }
    return small_model(
        token_policy="sparse", host="deformable-detr", host_options=options, keep_ratio=0.3, dropout=0.0,
        quirks="original", position_temperature=10000.0, position_offset=-0.5,
    ).train()  # fmt: skip


def crowd(objects):
    """All objects about the first, some of them twice."""
    for label in objects:
        label["boxes"][:, :2] = label["boxes"][:1, :2] + 0.01 * label["boxes"][:, :2]
        label["boxes"][1::2], label["class_labels"][1::2] = (
            label["boxes"][:-1:2],
            label["class_labels"][:-1:2],
        )
    return objects


def to_the_edge(objects):
    """The first object is the picture."""
    for label in objects:
        label["boxes"][:1] = torch.tensor([0.5, 0.5, 1.0, 1.0])
    return objects


def on_a_grid(objects):
    """Sides and centres in eighths, all of one class: many sums of costs are equal."""
    for label in objects:
        label["boxes"] = (label["boxes"] * 8).round().clamp(1, 8) / 8
        label["class_labels"] = torch.zeros_like(label["class_labels"])
    return objects


@pytest.mark.parametrize(
    ("sizes", "counts", "change"),
    [
        ("one size", (3, 0), list),
        ("padded in one direction each", (0, 0), list),
        ("padded in both", (7, 12), list),
        ("padded in both", (26, 6), list),  # more objects than queries
        ("padded in both", (6, 4), crowd),
        ("much smaller", (5, 3), list),
        ("much smaller", (1, 4), to_the_edge),
        ("three, odd sizes", (9, 20, 1), on_a_grid),
    ],
)
def test_losses_and_gradients(model, sizes, counts, change):
    images = [image(*size, seed=i) for i, size in enumerate(SIZES[sizes])]
    pixels, mask = batch(images)
    objects = change(labels(counts, SIZES[sizes]))
    for label in objects:
        label["boxes"] = label["boxes"].double()
    found, gradients = [], []
    for losses in (
        lambda: model(pixels, mask, objects).loss_dict,
        lambda: sparse_detr_losses(model, pixels, mask, objects),
    ):
        model.zero_grad()
        found.append(losses())
        sum(found[-1].values()).backward()
        norms = {name: part.grad.norm() for name, part in model.named_parameters() if part.grad is not None}
        gradients.append(norms)
    assert found[0].keys() == found[1].keys()
    for key, value in found[1].items():
        torch.testing.assert_close(found[0][key], value, rtol=1e-9, atol=1e-12, msg=key)
    for name, norm in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], norm, rtol=1e-7, atol=1e-10, msg=name)
