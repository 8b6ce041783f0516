"""Every quirk of the release is one switch: what it changes, and that it changes nothing else."""

import dataclasses
import json

import pytest
import torch

from focus_detr import FocusDetrConfig
from focus_detr.errors import FocusDetrError
from focus_detr.losses.focal import naive_focal_loss, sigmoid_focal_loss
from focus_detr.models.configuration import Quirks
from focus_detr.models.selection import plan_tokens
from focus_detr.structures.geometry import Geometry
from helpers.small_models import batch, image, labels, small_model

NAMES = [field.name for field in dataclasses.fields(Quirks)]
SHAPES = [(96, 128), (80, 70)]
PADDED = batch([image(*shape, seed=i) for i, shape in enumerate(SHAPES)])
ONE = (image(96, 128)[None], None)


def run(switch, inputs, training=False, **changes):
    """The model's output with one quirk on, on the same weights; None for no quirk."""
    model = small_model(quirks={switch: True} if switch else "corrected", denoising_queries=0, **changes)
    with torch.no_grad():
        return model.train(training)(*inputs, labels([2, 1], SHAPES)[: len(inputs[0])])


def changed(switch, inputs, what, training=False):
    plain, quirky = run(None, inputs, training), run(switch, inputs, training)
    first, second = what(plain), what(quirky)
    return first.shape != second.shape or not torch.allclose(first, second, rtol=0, atol=1e-9)


# What changes first, in the order data flows: everything before it must stay.
STAGES = {
    "scores": lambda output: output.plan.scores,
    "memory": lambda output: output.memory,
    "proposals": lambda output: output.proposal_boxes,
    "boxes": lambda output: output.pred_boxes,
}


@pytest.mark.parametrize(
    ("switch", "inputs", "first"),
    [
        ("frozen_values", ONE, "memory"),
        ("raw_category_product", ONE, "memory"),
        ("batch_counts", PADDED, "memory"),
        ("padded_statistics", PADDED, "scores"),
        ("padded_backbone", PADDED, "scores"),
        ("unmasked_evaluation", PADDED, "scores"),
        ("canvas_query_position", PADDED, "boxes"),
    ],
)
def test_a_switch_changes_its_own_stage_first(switch, inputs, first):
    for stage, what in STAGES.items():
        if stage == first:
            assert changed(switch, inputs, what)
            return
        assert not changed(switch, inputs, what), stage


@pytest.mark.parametrize(
    "switch",
    [name for name in NAMES if name not in ("frozen_values", "raw_category_product", "naive_focal")],
)
def test_without_padding_most_quirks_change_nothing(switch):
    assert not changed(switch, ONE, STAGES["scores"])
    assert not changed(switch, ONE, STAGES["boxes"])
    assert not changed(switch, ONE, lambda output: output.loss, training=True)


def test_masks_count_in_training_in_either_setting():
    assert not changed("unmasked_evaluation", PADDED, STAGES["boxes"], training=True)


def test_padded_fine_tokens_take_part():
    # All tokens are fine ones, so that those of the padding are picked and attended to, or not.
    plain = run(None, PADDED, keep_ratio=1, num_fine_tokens=999)
    quirky = run("padded_fine_tokens", PADDED, keep_ratio=1, num_fine_tokens=999)
    assert torch.equal(plain.plan.scores, quirky.plan.scores)
    assert not torch.allclose(plain.memory[1], quirky.memory[1])
    torch.testing.assert_close(plain.memory[0], quirky.memory[0])  # it fills the canvas but for a few tokens


def test_batch_fill_ties_padding_with_the_lowest_score():
    geometry = Geometry.padded([(2, 3)], torch.tensor([[[2, 2]]]))  # tokens 2 and 5 are padding
    scores = torch.tensor([[5.0, 4.0, 9.0, 3.0, -1.0, 9.0]])
    orders = {
        fill: plan_tokens(scores, geometry, 1.0, (1.0,), batch_fill=fill).indices[0].tolist()
        for fill in (False, True)
    }
    assert orders[False] == [0, 1, 3, 4, 2, 5]
    assert orders[True] == [0, 1, 3, 2, 4, 5]  # token 4 has the lowest score, and comes after padding


def test_padded_queries_may_be_chosen():
    settings = {"num_queries": 2000}  # more than tokens: everything is chosen
    plain, quirky = (run(switch, PADDED, **settings) for switch in (None, "padded_queries"))
    never = torch.finfo(torch.float64).min
    assert (plain.logits[1] == never).any() and not (quirky.logits[1] == never).any()


def test_padding_counts_as_background_in_the_released_loss():
    plain, quirky = (run(switch, PADDED, training=True) for switch in (None, "padded_foreground_loss"))
    assert quirky.loss_dict["loss_foreground"] > plain.loss_dict["loss_foreground"]
    for name, value in plain.loss_dict.items():
        if name != "loss_foreground":
            assert torch.equal(value, quirky.loss_dict[name])


@pytest.mark.parametrize(
    ("switch", "part"), [("padded_fusion", "loss_class"), ("canvas_centres", "loss_foreground")]
)
def test_quirks_of_salience_detr(switch, part):
    host = {"host": "salience-detr", "token_policy": "salience"}
    plain, quirky = (run(each, PADDED, training=True, **host) for each in (None, switch))
    assert torch.equal(plain.memory, quirky.memory)
    assert plain.loss_dict[part] != quirky.loss_dict[part]
    plain, quirky = (run(each, ONE, training=True, **host) for each in (None, switch))
    assert torch.equal(plain.loss, quirky.loss)


def test_the_released_focal_loss_is_not_finite_where_the_sigmoid_saturates():
    negative, positive = torch.tensor([16.0, 17.0]), torch.tensor([-100.0])
    naive = naive_focal_loss(negative, torch.zeros(2), 0.25, 2.0)
    assert naive[0].isfinite() and naive[1].isinf()
    assert naive_focal_loss(positive, torch.ones(1), 0.25, 2.0).isinf().all()
    assert sigmoid_focal_loss(negative, torch.zeros(2), 0.25, 2.0).isfinite().all()
    logits = torch.linspace(-10, 10, 41, dtype=torch.float64)
    for target in (torch.zeros_like(logits), torch.ones_like(logits)):
        stable = sigmoid_focal_loss(logits, target, 0.25, 2.0)
        torch.testing.assert_close(stable, naive_focal_loss(logits, target, 0.25, 2.0))


def test_naive_focal_is_a_switch_of_the_model():
    model = small_model(quirks={"naive_focal": True})
    with torch.no_grad():
        model.encoder.selector.score[-1].bias.fill_(60.0)
    parts = model(*ONE, labels([1], SHAPES[:1])).loss_dict
    assert not parts["loss_foreground"].isfinite()
    model.config.quirks["naive_focal"] = False
    assert model(*ONE, labels([1], SHAPES[:1])).loss_dict["loss_foreground"].isfinite()


@pytest.mark.parametrize("quirks", ["original", "corrected"])
@pytest.mark.parametrize("policy", ["focus", "dense"])
def test_neither_setting_crashes_on_small_images(quirks, policy):
    model = small_model(quirks=quirks, token_policy=policy, num_queries=900, num_fine_tokens=300).train()
    output = model(image(64, 64)[None], None, labels([0], [(64, 64)]))
    assert output.loss.isfinite() and output.logits.shape[1] < 900


def test_named_and_single_switches():
    assert all(dataclasses.asdict(Quirks.named("original")).values())
    assert not any(dataclasses.asdict(Quirks.named("corrected")).values())
    config = FocusDetrConfig(quirks={"frozen_values": True})
    assert config.quirks == {name: name == "frozen_values" for name in NAMES}
    assert config.switches == Quirks(frozen_values=True)
    with pytest.raises(FocusDetrError, match="unknown switch 'frozen_value'.*did you mean 'frozen_values'"):
        FocusDetrConfig(quirks={"frozen_value": True})
    with pytest.raises(FocusDetrError, match=r"quirks\['batch_fill'\]=1: must be true or false"):
        FocusDetrConfig(quirks={"batch_fill": 1})
    with pytest.raises(FocusDetrError, match="quirks='modern'"):
        FocusDetrConfig(quirks="modern")


def test_switches_are_saved(tmp_path):
    FocusDetrConfig(quirks="original").save_pretrained(tmp_path)
    assert all(json.loads((tmp_path / "config.json").read_text())["quirks"].values())
    assert FocusDetrConfig.from_pretrained(tmp_path).switches == Quirks.named("original")
