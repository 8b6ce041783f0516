"""A deployed model gives the answers of the one it was made from."""

import copy
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import ResNetConfig, SwinConfig

from focus_detr import FocusDetrConfig, FocusDetrForObjectDetection
from focus_detr.deploy import deploy as module
from focus_detr.deploy.deploy import deploy
from focus_detr.deploy.fusion import FusedConv2d
from focus_detr.errors import FocusDetrError
from focus_detr.models import position
from focus_detr.models.backbones.catalogue import backbone_config
from focus_detr.models.backbones.frozen_batch_norm import FrozenBatchNorm2d
from focus_detr.models.backbones.yolox import YoloxConfig
from focus_detr.models.hosts import HOSTS
from focus_detr.models.options import in_place
from helpers.pairs import PARAMETERS

STAGES = ["stage2", "stage3", "stage4"]
SHAPE = {"embedding_size": 8, "hidden_sizes": [16, 16, 24, 32], "out_features": STAGES}
BACKBONES = {
    "bottleneck": ResNetConfig(depths=[1, 2, 1, 1], layer_type="bottleneck", **SHAPE),
    "basic": ResNetConfig(depths=[2, 1, 1, 1], layer_type="basic", **SHAPE),
    "coarse": ResNetConfig(**{**SHAPE, "out_features": STAGES[-1:]}, depths=[1, 1, 1, 1]),
    "lite": backbone_config("efficientnet-lite0"),
    "swin": SwinConfig(
        embed_dim=8, depths=[1, 2, 1, 1], num_heads=[1, 2, 2, 4], window_size=4, out_features=STAGES
    ),
    "yolox": YoloxConfig(
        hidden_sizes=[8, 8, 16, 16, 32],
        depths=[1, 1, 1, 1],
        tower_channels=16,
        out_features=["tower1", "tower2", "tower3"],
    ),
}
SMALL = {
    "num_labels": 3, "d_model": 32, "attention_heads": 4, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "cascade": [1.0, 0.5], "num_fine_tokens": 12,
    "num_queries": 20, "num_detections": 20,
}  # fmt: skip


def detector(backbone="bottleneck", **changes):
    """Random weights and statistics of a size that spreads scores and boxes."""
    config = FocusDetrConfig(backbone_config=BACKBONES[backbone], **in_place({**SMALL, **changes}))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = FocusDetrForObjectDetection(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if not name.startswith("backbone."):
                    parameter.add_(torch.randn_like(parameter) * 0.1)
            for norm in model.modules():
                if isinstance(norm, FrozenBatchNorm2d):
                    norm.running_mean.normal_(0, 0.1)
                    norm.running_var.uniform_(0.5, 1.5)
                    norm.bias.data.normal_(0, 0.1)
    return model.eval()


def pictures(count=2, height=96, width=128):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def assert_same(mine, theirs, tolerance=1e-4):
    for name in ("logits", "pred_boxes", "memory"):
        torch.testing.assert_close(mine[name], theirs[name], rtol=tolerance, atol=tolerance)
    if theirs.plan is not None:
        assert mine.plan.counts == theirs.plan.counts
        assert_same_order(mine.plan, theirs.plan)


def assert_same_order(mine, theirs):
    """Folded norms round otherwise: tokens whose scores are equal to that precision may change places."""
    if theirs.scores is None:
        assert torch.equal(mine.indices, theirs.indices)
        return
    ranked = [theirs.scores.gather(1, plan.indices) for plan in (mine, theirs)]
    torch.testing.assert_close(*ranked, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("size", [(96, 128), (101, 75)])
def test_same_answers(backbone, size):
    model = detector(backbone)
    images = pictures(2, *size)
    assert_same(deploy(model)(images), model(images))


@torch.no_grad()
@pytest.mark.parametrize("pair", PARAMETERS)
def test_same_answers_of_every_host_and_policy(pair):
    host, policy = pair
    single = HOSTS[host].single_scale
    model = detector(
        "coarse" if single else "bottleneck",
        host=host,
        token_policy=policy,
        encoder_layers=3,
        cascade=[1.0, 0.6, 0.3],
        num_levels=1 if single else 4,
    )
    assert_same(deploy(model)(pictures()), model(pictures()))


@torch.no_grad()
@pytest.mark.parametrize("changes", [{"token_policy": "dense"}, {"quirks": "original"}, {}])
def test_same_answers_in_a_padded_batch(changes):
    model = detector(**changes)
    images, mask = pictures(), torch.ones(2, 96, 128, dtype=torch.long)
    mask[1, 64:] = mask[1, :, 90:] = 0
    images[1] *= mask[1]
    assert_same(deploy(model)(images, mask), model(images, mask))


def test_original_model_stays_as_it_is():
    model = detector()
    before = copy.deepcopy(model.state_dict())
    deploy(model)(pictures())
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert any(parameter.requires_grad for parameter in model.parameters())
    model.train()


@pytest.mark.parametrize("backbone", ["bottleneck", "basic", "lite", "yolox"])
def test_no_batch_norm_and_no_plain_convolution_is_left(backbone):
    model = detector(backbone)
    convolutions = sum(isinstance(part, torch.nn.Conv2d) for part in model.modules())
    deployed = deploy(model)
    assert not any(isinstance(part, FrozenBatchNorm2d) for part in deployed.modules())
    assert sum(isinstance(part, FusedConv2d) for part in deployed.modules()) == convolutions
    assert not any(parameter.requires_grad for parameter in deployed.parameters())
    # Activations are computed in the same pass.
    inside = {part.activation for part in deployed.modules() if isinstance(part, FusedConv2d)}
    activations = (torch.nn.ReLU, torch.nn.ReLU6, torch.nn.SiLU)
    left = {part for part in deployed.backbone.modules() if isinstance(part, activations)} - inside
    assert not left


@pytest.mark.parametrize(
    "activation", [torch.nn.Identity(), torch.nn.ReLU(), torch.nn.ReLU6(), torch.nn.SiLU(), torch.nn.GELU()]
)
@pytest.mark.parametrize("with_residual", [False, True])
def test_fused_convolution_is_convolution_norm_sum_and_activation(activation, with_residual):
    torch.manual_seed(0)
    convolution, norm = torch.nn.Conv2d(8, 6, 3, 2, 1, groups=2), FrozenBatchNorm2d(6)
    for name, tensor in norm.named_buffers():
        tensor.uniform_(0.5, 8) if name != "bias" else tensor.normal_()
    fused = FusedConv2d(convolution, norm, activation)
    for size in (12, 7, 12):
        x, residual = torch.randn(2, 8, 9, size), torch.randn(2, 6, 5, (size + 1) // 2)
        copies = x.clone(), residual.clone()
        expected = activation(norm(convolution(x)) + (residual if with_residual else 0))
        for grad in (True, False):  # plain torch, and oneDNN
            with torch.set_grad_enabled(grad):
                mine = fused(x, residual if with_residual else None)
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(x, copies[0]) and torch.equal(residual, copies[1])


def test_positions_are_made_once_for_each_size(monkeypatch):
    made = []
    original = position.token_positions
    monkeypatch.setattr(
        "focus_detr.models.detector.token_positions",
        lambda *args: made.append(args[0].shapes[0]) or original(*args),
    )
    deployed = deploy(detector())
    for size in ((96, 128), (64, 64), (96, 128)):
        for count in (1, 2):
            deployed(pictures(count, *size))
    assert made == [(12, 16), (8, 8)]
    monkeypatch.setattr(module, "_POSITION_BYTES", 0)
    deployed = deploy(detector())
    deployed(pictures(1, 32, 32))
    assert len(deployed._positions) == 0


def test_feed_forward_some_rows_at_a_time(monkeypatch):
    model = detector()
    tokens = torch.randn(2, 9, 32)
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 4)
    deployed = deploy(model)
    for mine, theirs in zip(deployed.encoder.layers, model.encoder.layers, strict=True):
        assert type(mine.ffn) is module.RowwiseFeedForward
        torch.testing.assert_close(mine.ffn(tokens), theirs.ffn(tokens))


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["bottleneck", "lite", "swin"])
def test_bfloat16_keeps_what_decides_in_float32(monkeypatch, backbone):
    monkeypatch.setattr(module, "computes_natively", lambda dtype, device: True)
    model, images = detector(backbone), pictures()
    deployed = deploy(model, dtype="auto")
    seen = {}
    for name, part in deployed.named_modules():
        part.register_forward_hook(lambda part, inputs, output, name=name: seen.update({name: output}))
    mine, theirs = deployed(images), model(images)
    layer = "encoder.layers.0."
    for name in ("ffn.linear1", "self_attention", "deformable_attention.value_proj"):
        assert seen[layer + name].dtype == torch.bfloat16
    for name in ("encoder.selector", "proposals.class_head", layer + "ffn_norm"):
        assert seen[name].dtype == torch.float32
    assert deployed.encoder.layers[0].deformable_attention.joint_weight.dtype == torch.float32
    assert mine.pred_boxes.dtype == mine.memory.dtype == torch.float32
    for layer, count in enumerate(theirs.plan.counts):
        for kept, own in zip(
            mine.plan.kept(layer)[0].tolist(), theirs.plan.kept(layer)[0].tolist(), strict=True
        ):
            assert len(set(kept) & set(own)) >= 0.9 * count
    error = (mine.memory - theirs.memory).abs().mean() / theirs.memory.abs().mean()
    assert 0 < error < 0.05


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_compiled_in_one_graph_gives_the_same_answers(monkeypatch, backend):
    compiled, graphs = torch.compile, []

    def compile(function, *, options, **rest):
        graphs.append(rest)
        return compiled(function, backend=backend, options=options if backend == "inductor" else None, **rest)

    monkeypatch.setattr(torch, "compile", compile)
    model = detector(encoder_layers=1, decoder_layers=1, cascade=[0.5])
    deployed = deploy(model, compile=True)
    assert graphs == [{"fullgraph": True}]
    images = pictures(1)
    assert_same(deployed(images), model(images))
    whole = torch.ones(1, 96, 128, dtype=torch.long)
    assert_same(deployed(images, whole), model(images, whole))
    padded = whole.clone()
    padded[:, 64:] = 0
    assert_same(deployed(images, padded), model(images, padded))


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        {"token_policy": "focus", "encoder_layers": 1, "cascade": [0.5]},
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in (
                {"token_policy": "dense", "encoder_layers": 1, "cascade": [0.5]},
                {"token_policy": "sparse", "encoder_layers": 1, "cascade": [0.5]},
                {"policy_options": {"reactivation": True}, "encoder_layers": 2, "cascade": [0.5, 0.3]},
            )
        ),
    ],
)
def test_a_compiled_graph_makes_its_sizes_on_the_device(changes):
    made = []

    def backend(graph, inputs):
        made.extend(
            str(node.target) for node in graph.graph.nodes if node.op in ("call_function", "get_attr")
        )
        return graph.forward

    model = detector(**changes, decoder_layers=1)
    compiled = torch.compile(
        lambda images: FocusDetrForObjectDetection.forward(model, images), fullgraph=True, backend=backend
    )
    assert_same(compiled(pictures(1)), model(pictures(1)))
    # A tensor made of numbers is a constant on the CPU: no CUDA graph takes it.
    assert made and not [name for name in made if "tensor" in name and "embed" not in name]


@torch.no_grad()
@pytest.mark.parametrize("form", [deploy, pytest.param(lambda model: model, marks=pytest.mark.slow)])
def test_eight_threads_get_what_one_gets(form):
    model, generator = form(detector("lite")), torch.Generator().manual_seed(2)
    batches = []
    for sizes in [[(64, 96)], [(96, 64)], [(80, 80)], [(64, 100), (72, 64)], [(64, 96), (64, 96), (33, 47)]]:
        mask = torch.zeros(len(sizes), *(max(side) for side in zip(*sizes, strict=True)))
        for row, (height, width) in zip(mask, sizes, strict=True):
            row[:height, :width] = 1
        batches.append(
            (torch.randn(len(sizes), 3, *mask.shape[1:], generator=generator) * mask[:, None], mask)
        )
    budgets = [None, 0.3, 1.0]
    cases = [(*batch, budget) for batch in batches for budget in budgets]
    alone = [model(images, mask, budget=budget) for images, mask, budget in cases]

    def work(worker):
        with torch.no_grad():  # a setting of each thread
            for i in range(worker, worker + 20):
                images, mask, budget = cases[7 * i % len(cases)]
                answer = model(images, mask, budget=budget)
                for name in ("logits", "pred_boxes"):
                    assert torch.equal(answer[name], alone[7 * i % len(cases)][name])

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, range(8)))
    finally:
        sys.setswitchinterval(before)


def test_copies_and_moves():
    deployed, images = deploy(detector()), pictures()
    before = deployed(images)
    assert_same(copy.deepcopy(deployed)(images), before)
    assert_same(deployed.to("cpu")(images), before)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda model: model.train(), "cannot be trained"),
        (lambda model: model.save_pretrained("anywhere"), "save the one it was made from"),
        (lambda model: model(pictures(), labels=[{}]), "computes no losses"),
        (deploy, "deployed already"),
    ],
)
def test_what_it_cannot_do_is_said(use, words):
    with pytest.raises(FocusDetrError, match=words):
        use(deploy(detector()))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "int8"}, "dtype='int8': not known; use one of auto, float32"),
        ({"dtype": torch.float64}, "dtype=torch.float64: not known"),
        ({"dtype": "bfloat16"}, "'bfloat16': this cpu has no arithmetic for it"),
        ({"cuda_graphs": True}, "cuda_graphs=True: the model is on cpu"),
    ],
)
def test_options_that_cannot_be_had_are_refused(monkeypatch, options, words):
    monkeypatch.setattr(module, "computes_natively", lambda dtype, device: False)
    with pytest.raises(FocusDetrError, match=words):
        deploy(detector(), **options)


def test_other_models_are_refused():
    with pytest.raises(FocusDetrError, match="Linear is no FocusDetrForObjectDetection"):
        deploy(torch.nn.Linear(1, 1))
