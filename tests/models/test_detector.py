"""The detector on what users feed it: small images, empty ones, other sizes of everything."""

import pytest
import torch

from focus_detr.deploy.deploy import deploy
from focus_detr.errors import FocusDetrError
from focus_detr.models.backbones.backbone import backbone_config
from focus_detr.structures.geometry import Geometry
from helpers.small_models import SWIN, batch, image, labels, small_model


@pytest.mark.parametrize("policy", ["focus", "dense"])
@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (3, 2)])
def test_every_parameter_learns_whatever_the_objects(policy, counts):
    shapes = [(64, 64), (64, 200)]
    model = small_model(token_policy=policy).train()
    pixels, mask = batch([image(*shape, seed=i) for i, shape in enumerate(shapes)])
    output = model(pixels, mask, labels(counts, shapes))
    output.loss.backward()
    assert output.loss.isfinite()
    torch.testing.assert_close(output.loss, sum(output.loss_dict.values()))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("shape", [(64, 64), (64, 200), (97, 65), (333, 71)])
@torch.no_grad()
def test_small_and_odd_images(shape):
    output = small_model(num_queries=900, num_fine_tokens=300)(image(*shape)[None])
    tokens = sum(height * width for height, width in output.spatial_shapes)
    assert output.logits.shape == (1, min(900, tokens), 3)
    assert output.logits.isfinite().all() and output.pred_boxes.isfinite().all()
    assert ((output.pred_boxes >= 0) & (output.pred_boxes <= 1)).all()


@pytest.mark.parametrize("levels", [3, 5])
@pytest.mark.parametrize("backbone", [None, SWIN], ids=["resnet", "swin"])
def test_any_number_of_levels(levels, backbone):
    changes = {} if backbone is None else {"backbone": backbone}
    model = small_model(num_levels=levels, **changes).train()
    output = model(image(160, 128)[None], None, labels([2], [(160, 128)]))
    output.loss.backward()
    assert len(output.spatial_shapes) == levels == len(model.strides)
    assert model.strides[-1] == 8 * 2 ** (levels - 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"d_model": 24, "attention_heads": 2, "num_points": 2},
        {"num_labels": 1, "num_queries": 1, "num_fine_tokens": 1},
        {"num_labels": 90, "encoder_layers": 1, "cascade": [0.5], "decoder_layers": 4},
        {"keep_ratio": 0.01},
        {"keep_ratio": 1.0, "cascade": [1.0, 1.0, 1.0]},
    ],
)
def test_any_size_of_parts(changes):
    model = small_model(**changes).train()
    output = model(
        image(96, 96)[None], None, labels([1], [(96, 96)]) if changes.get("num_labels") != 1 else None
    )
    if output.loss is not None:
        output.loss.backward()
        assert output.loss.isfinite()
    assert output.logits.shape[-1] == changes.get("num_labels", 3)


def test_more_objects_than_queries():
    model = small_model(num_queries=2).train()
    assert model(image(64, 64)[None], None, labels([6], [(64, 64)])).loss.isfinite()


@torch.no_grad()
def test_box_head_on_the_chosen_is_that_on_all():
    model = small_model()
    output = model(image(96, 128)[None])
    geometry = Geometry.unpadded(output.spatial_shapes, 1, torch.device("cpu"))
    anchors, proposing = model.proposals.anchors(geometry)
    features = model.proposals.transform(output.memory, proposing)
    boxes = (model.proposals.box_head(features) + anchors).sigmoid()
    best = model.proposals.class_head(features).amax(-1)
    order = best.sort(dim=1, descending=True, stable=True).indices[0, :20]
    torch.testing.assert_close(output.proposal_boxes[0], boxes[0, order])


@torch.no_grad()
def test_scores_stay_in_single_precision_under_autocast():
    model = small_model(dtype=torch.float32)
    picture = image(96, 128, dtype=torch.float32)[None]
    seen = []
    model.encoder.selector.register_forward_hook(lambda module, inputs, scores: seen.append(scores.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        output = model(picture)
    assert seen == [torch.float32] and output.logits.isfinite().all()


@pytest.mark.slow
@torch.no_grad()
def test_compiled_equals_eager():
    model = small_model(backbone_config("efficientnet-lite0"), dtype=torch.float32)
    picture = image(96, 128, dtype=torch.float32)[None]
    eager = model(picture)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")(picture)
    torch.testing.assert_close(compiled.pred_boxes, eager.pred_boxes, rtol=0, atol=1e-4)
    assert torch.equal(compiled.plan.indices, eager.plan.indices)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask": torch.ones(1, 64, 64)}, "unknown argument 'mask' .did you mean 'pixel_mask'"),
        ({"pixel_masks": None}, "unknown argument 'pixel_masks' .did you mean 'pixel_mask'"),
        ({"targets": []}, "unknown argument 'targets'; known: pixel_values, pixel_mask, labels"),
        ({"return_dict": False}, r"return_dict=False: .* \.to_tuple\(\)"),
        ({"output_attentions": True}, "output_attentions=True: a detector gives none"),
    ],
)
@pytest.mark.parametrize("deployed", [False, True])
def test_arguments_that_nothing_would_come_of_are_refused(arguments, message, deployed):
    model = small_model(dtype=torch.float32)
    model = deploy(model) if deployed else model
    with pytest.raises(FocusDetrError, match=message):
        model(image(64, 64, dtype=torch.float32)[None], **arguments)


@torch.no_grad()
def test_what_transformers_passes_is_taken():
    model, picture = small_model(), image(64, 64)[None]
    customary = {"return_dict": True, "output_attentions": None, "output_hidden_states": False}
    found = model(pixel_values=picture, num_items_in_batch=3, **customary)
    assert torch.equal(found.logits, model(picture).logits)
    assert found.to_tuple()[0] is found.logits
