"""A step of training waits for the device as often as the host must know something, whatever the batch."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from focus_detr.models.hosts.denoising import contrastive_denoising, plain_denoising
from helpers.host_traffic import HostTraffic
from helpers.small_models import DETR, batch, image, labels, small_model

TWO_STAGE = {"host_options": {"two_stage": True, "box_refinement": True}}
MODELS = {
    "focus": {},
    "salience": {"token_policy": "salience"},
    "sparse": {"token_policy": "sparse", "host": "deformable-detr", **TWO_STAGE},
    "learned-anchors": {"host": "dn-deformable-detr", "token_policy": "interleaved"},
    "detr": {"token_policy": "poll-and-pool", **DETR},
}


def step(model, count):
    """Of ``count`` pictures of four sizes."""
    sizes = [(64 + 8 * (i % 2), 64 + 8 * (i // 2 % 2)) for i in range(count)]
    pixels, mask = batch([image(*size, seed=i, dtype=torch.float32) for i, size in enumerate(sizes)])
    truth = labels([i % 4 for i in range(count)], sizes)
    table = getattr(model.host, "label_embedding", None)
    # Drawn before: on a CPU the numbers of the host look like those of the device.
    noised = None
    if isinstance(table, nn.Embedding):
        draw = contrastive_denoising if model.config.host == "dino" else plain_denoising
        noised = draw(truth, table, 2, 0.5, 0.4)
    with HostTraffic() as traffic:
        model(pixels, mask, labels=truth, denoising=noised).loss.backward()
    return traffic.counts


@pytest.mark.parametrize("name", MODELS)
def test_the_host_reads_sizes_and_costs_once_each(name):
    model = small_model(dtype=torch.float32, **MODELS[name]).train()
    counts = step(model, 2)
    # The sizes of the images, and the costs of all layers; those of an encoder's own heads apart.
    assert counts.pop("tolist") == 1
    assert counts.pop("cpu") == (2 if name == "sparse" else 1)
    counts.pop("item", None)  # the keep ratio that poll-and-pool draws, on the host
    assert not counts, counts
    assert step(model, 8).total() == step(model, 2).total()


@pytest.mark.parametrize("name", ["focus", "detr"])
def test_gradients_ask_nothing_of_the_device(name):
    model = small_model(dtype=torch.float32, **MODELS[name]).train()
    pixels, mask = batch([image(64, 64, dtype=torch.float32)])
    loss = model(pixels, mask, labels=labels([2], [(64, 64)])).loss
    assert numbers_asked(loss.backward) == 0


def test_numbers_that_gradients_ask_for_are_counted():
    sides = torch.rand(3, 2, requires_grad=True)
    assert numbers_asked(lambda: sides.prod(-1).sum().backward()) == 1


def numbers_asked(work):
    """By the host. Within `HostTraffic` gradients take other ways, hence torch's own account."""
    with profile(activities=[ProfilerActivity.CPU]) as account:
        work()
    return sum(each.count for each in account.key_averages() if each.key == "aten::_local_scalar_dense")


def test_what_waits_is_counted():
    numbers = torch.arange(4)
    with HostTraffic() as traffic:
        numbers[numbers > 1]
        numbers.nonzero()
        numbers.sum().item()
        numbers.tolist()
        numbers[[0, 2]]
        torch.tensor([1, 2], device="cpu")
        bool(numbers.any())
        torch.where(numbers > 1, numbers, 0)[None].to("cpu")
        numbers[torch.tensor([1])] = 1
        numbers[0] = 1
    assert traffic.counts["index by a mask"] == traffic.counts["aten.nonzero.default"] == 1
    assert traffic.counts["number written by an index"] == 1
    assert traffic.counts["index by a list"] == traffic.counts["torch.tensor(device=...)"] == 1
    assert traffic.counts["item"] == traffic.counts["tolist"] == traffic.counts["__bool__"] == 1


@pytest.mark.parametrize("draw", [contrastive_denoising, plain_denoising])
@pytest.mark.parametrize("seeded", [False, True])
def test_denoising_asks_nothing_of_the_device(draw, seeded):
    # Tensors of the meta device have no numbers that could be asked for.
    truth = [
        {name: value.to("meta") for name, value in label.items()}
        for label in labels([3, 0, 2], [(64, 64)] * 3)
    ]
    for i, label in enumerate(truth if seeded else []):
        label["noise_seed"] = torch.tensor([i])
    found = draw(truth, nn.Embedding(3, 8, device="meta"), 5, 0.5, 0.4)
    assert found.content.device.type == found.boxes.device.type == "meta"
