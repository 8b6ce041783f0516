"""The decoder: who learns from which layer's boxes, who sees whom, and where positions are relative to."""

import pytest
import torch
from torch import nn

from focus_detr.models.attention import DeformableAttention
from focus_detr.models.heads.boxes import BoxHead, locate
from focus_detr.models.heads.classes import ClassHead, classify
from focus_detr.models.hosts.decoder import Decoder, DecoderLayer, self_attention_mask
from focus_detr.models.layers import Layers
from focus_detr.models.position import box_positions
from focus_detr.structures.geometry import Geometry
from focus_detr.structures.memory import Memory

CHANNELS, CLASSES, QUERIES, LAYERS = 16, 3, 5, 3
SHAPES = [(4, 6), (2, 3)]
WHOLE = Geometry.unpadded(SHAPES, 2, torch.device("cpu"))
PADDED = Geometry.padded(SHAPES, torch.tensor([[[4, 6], [2, 3]], [[3, 4], [2, 2]]]))


class Headed(nn.Module):
    """A decoder beside its heads, as a host has them."""

    def __init__(self, layers):
        super().__init__()
        self.decoder = Decoder(layers, CHANNELS)
        self.class_heads = Layers(ClassHead(CHANNELS, CLASSES) for _ in layers)
        self.box_heads = Layers(BoxHead(CHANNELS) for _ in layers)

    def forward(self, content, boxes, memory, geometry, *others):
        return self.decoder(content, boxes, Memory(memory, geometry), self.box_heads, *others)


@pytest.fixture
def host():
    torch.manual_seed(0)
    layers = [
        DecoderLayer(CHANNELS, 2, DeformableAttention(CHANNELS, 2, len(SHAPES), 2), 24, 0.0)
        for _ in range(LAYERS)
    ]
    made = Headed(layers).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return made


def scene(seed=1):
    generator = torch.Generator().manual_seed(seed)
    content = torch.randn(2, QUERIES, CHANNELS, generator=generator, dtype=torch.float64)
    boxes = 0.2 + 0.6 * torch.rand(2, QUERIES, 4, generator=generator, dtype=torch.float64)
    memory = torch.randn(2, WHOLE.num_tokens, CHANNELS, generator=generator, dtype=torch.float64)
    return content, boxes, memory


def predictions(host, *inputs):
    """Logits and boxes of every layer."""
    output = host(*inputs)
    logits = classify(host.class_heads, output.states)
    return logits, locate(host.box_heads, output.states, output.references)


def learning(modules):
    return [any(p.grad is not None and p.grad.any() for p in module.parameters()) for module in modules]


@pytest.mark.parametrize(
    ("layer", "heads"),
    [(0, [True, False, False]), (1, [True, True, False]), (2, [False, True, True])],
)
def test_boxes_look_forward_twice(host, layer, heads):
    # A layer's boxes teach its own head and that of the layer before, and no head before that one.
    _, boxes = predictions(host, *scene(), WHOLE)
    boxes[layer].sum().backward()
    assert learning(host.box_heads) == heads
    assert learning(host.decoder.layers) == [j <= layer for j in range(LAYERS)]


def test_a_layer_s_classes_teach_its_own_head_and_no_box_head(host):
    logits, _ = predictions(host, *scene(), WHOLE)
    logits[1].sum().backward()
    assert learning(host.class_heads) == [False, True, False]
    assert not any(learning(host.box_heads))


def test_predictions_read_the_normed_state_and_refinement_the_state(host):
    read = []
    host.box_heads[0].register_forward_hook(lambda module, inputs, output: read.append(inputs[0]))
    predictions(host, *scene(), WHOLE)
    state, normed = read
    assert torch.equal(normed, host.decoder.norm(state)) and not torch.allclose(normed, state)


@torch.no_grad()
def test_heads_that_move_nothing_leave_the_boxes(host):
    for head in host.box_heads:
        head.layers[-1].weight.zero_(), head.layers[-1].bias.zero_()
    content, boxes, memory = scene()
    boxes[0, 0] = torch.tensor([0.0, 1.0, 0.5, 0.0])  # the logit's clamp shows at the ends only
    expected = boxes.clamp(1e-3, 1 - 1e-3)
    for found in predictions(host, content, boxes, memory, WHOLE)[1]:
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


@torch.no_grad()
def test_positions_relative_to_the_canvas_differ_where_there_is_padding(host):
    for geometry, same in ((WHOLE, [True, True]), (PADDED, [True, False])):
        image, canvas = (
            predictions(host, *scene(), geometry, None, switch)[1][-1] for switch in (False, True)
        )
        assert [torch.allclose(image[i], canvas[i], atol=1e-9) for i in range(2)] == same


@torch.no_grad()
def test_positions_are_of_boxes_in_the_image_or_on_the_finest_canvas(host):
    encoded = []
    host.decoder.position_mlp.register_forward_hook(lambda module, inputs, output: encoded.append(inputs[0]))
    content, boxes, memory = scene()
    share = torch.tensor([4 / 6, 3 / 4, 4 / 6, 3 / 4], dtype=torch.float64)  # width, height of the second
    on_canvas = torch.stack([boxes[0], boxes[1] * share])
    for switch, expected in ((False, boxes), (True, on_canvas)):
        encoded.clear()
        host(content, boxes, memory, PADDED, None, switch)
        torch.testing.assert_close(encoded[0], box_positions(expected, CHANNELS))


@torch.no_grad()
def test_padding_of_the_memory_is_not_seen(host):
    content, boxes, memory = scene()
    other = torch.where(PADDED.valid[..., None], memory, 99.0)
    assert not torch.equal(memory, other)
    for geometry, same in ((PADDED, True), (WHOLE, False)):
        first, second = (predictions(host, content, boxes, each, geometry)[0][-1] for each in (memory, other))
        assert torch.allclose(first, second) == same


@torch.no_grad()
def test_order_of_queries_is_of_no_account(host):
    content, boxes, memory = scene()
    order = torch.tensor([3, 0, 4, 1, 2])
    logits, found = predictions(host, content, boxes, memory, WHOLE)
    permuted_logits, permuted = predictions(host, content[:, order], boxes[:, order], memory, WHOLE)
    torch.testing.assert_close(permuted_logits[-1], logits[-1][:, order])
    torch.testing.assert_close(permuted[-1], found[-1][:, order])


@torch.no_grad()
def test_queries_see_those_they_may_see(host):
    # Two denoising queries, three that are matched: the first see the others, not the other way round.
    denoising = torch.ones(QUERIES, QUERIES, dtype=torch.bool)
    denoising[2:, :2] = False
    allowed = self_attention_mask(denoising, None)
    content, boxes, memory = scene()
    before = predictions(host, content, boxes, memory, WHOLE, allowed)[0][-1]
    content[:, 0] += 1
    after = predictions(host, content, boxes, memory, WHOLE, allowed)[0][-1]
    torch.testing.assert_close(after[:, 2:], before[:, 2:])
    assert not torch.allclose(after[:, 1], before[:, 1])
    content[:, 4] += 1
    assert not torch.allclose(
        predictions(host, content, boxes, memory, WHOLE, allowed)[0][-1][:, 0], after[:, 0]
    )


def test_masks_combine():
    valid = torch.tensor([[True, True], [True, False]])
    denoising = torch.tensor([[True, True, True], [False, True, True], [False, True, True]])
    assert self_attention_mask(None, None) is None
    assert self_attention_mask(denoising, None) is denoising
    assert self_attention_mask(None, valid).tolist() == [[[[True, True]]], [[[True, False]]]]
    both = self_attention_mask(denoising, valid)
    assert both.shape == (2, 1, 3, 3) and torch.equal(both[0, 0], denoising)
    assert both[1, 0].tolist() == [[True, True, False], [False, True, False], [False, True, False]]
