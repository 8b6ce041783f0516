"""Every preset builds, and those of the paper are as large as the original."""

import re
from pathlib import Path

import pytest
import torch

from focus_detr import FocusDetrConfig, FocusDetrForObjectDetection, list_presets
from focus_detr.errors import FocusDetrError
from focus_detr.models.hosts import HOSTS
from focus_detr.models.policies import POLICIES
from focus_detr.training.recipe import recipe_for
from focus_detr.zoo.presets import plain_name


@pytest.fixture(scope="module")
def built():
    """Models by preset without weights, each built once."""
    models = {}

    def build(name):
        if name not in models:
            with torch.device("meta"):
                models[name] = FocusDetrForObjectDetection(FocusDetrConfig.from_preset(name))
        return models[name]

    return build


PLAIN = [name for name in list_presets() if plain_name(name) == name]


@pytest.mark.parametrize("name", PLAIN)
def test_every_preset_builds(name, built):
    model = built(name)
    assert model.config.num_labels == 80
    policies = {"focus": "focus", "dino": "dense", "lite": "interleaved", "salience": "salience"}
    policies |= {
        "dn": "dense",
        "sparse": "sparse",
        "deformable": "dense",
        "detr": "full-attention",
        "pnp": "poll-and-pool",
    }
    host = "deformable-detr" if "deformable" in name else "dino"
    host = "dn-deformable-detr" if "dn-deformable" in name else host
    host = "detr" if name.startswith(("detr-", "pnp-detr-")) else host
    assert model.config.host == host
    assert model.config.token_policy == policies[name.split("-")[0]]
    assert hasattr(model.encoder, "selector") == name.startswith(("focus", "salience"))
    strides = [32] if host == "detr" else [16, 32, 64] if name.endswith("nano") else [8, 16, 32, 64]
    assert model.strides == strides


@pytest.mark.parametrize(
    ("name", "trained"),
    [
        ("dino-r50", True),
        ("deformable-detr-r50", False),
        ("sparse-deformable-r50", False),
        ("detr-r50", False),
    ],
)
def test_stages_of_the_backbone_are_trained_as_in_the_original(name, trained, built):
    model = built(name).backbone.model
    stages = [{p.requires_grad for p in stage.parameters()} for stage in model.encoder.stages]
    assert stages == [{trained}, {True}, {True}, {True}]


@pytest.mark.parametrize(
    ("name", "millions", "entries"), [("focus-detr-r50", 49.34, 625), ("dino-r50", 47.65, None)]
)
def test_sizes_are_the_originals(name, millions, entries, built):
    # Frozen batch norms are buffers, all four tensors of each, in the original too. Its frozen stem counts.
    model = built(name)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == millions
    assert entries is None or len(model.state_dict()) == entries


def test_sizes_differ_by_what_focus_adds(built):
    count = {
        name: sum(p.numel() for p in built(name).parameters()) for name in ("focus-detr-r50", "dino-r50")
    }
    # Self-attention and its norm in six layers, then norm, four linears and three weights of the selector.
    attention = 6 * (4 * 256 * 256 + 4 * 256 + 2 * 256)
    widths = [(256, 256), (256, 128), (128, 64), (64, 1)]
    selector = 2 * 256 + sum(a * b + b for a, b in widths) + 3
    assert count["focus-detr-r50"] - count["dino-r50"] == attention + selector


def test_lite_dino_is_as_large_as_published(built):
    # 47 M (Lite-DETR, table 4): one small network in each of three blocks on top of dino-r50.
    count = {name: sum(p.numel() for p in built(name).parameters()) for name in ("lite-dino-r50", "dino-r50")}
    small = 2 * (256 * 256 + 256) + 2 * 256
    assert count["lite-dino-r50"] - count["dino-r50"] == 3 * small


def test_salience_adds_its_background(built):
    count = {
        name: sum(p.numel() for p in built(name).parameters())
        for name in ("salience-dino-r50", "focus-detr-r50")
    }
    assert count["salience-dino-r50"] - count["focus-detr-r50"] == 2 * 200 * 128
    assert built("salience-dino-r50").config.foreground_loss_coefficient == 2.0


@pytest.mark.parametrize(
    ("name", "millions"),
    [("deformable-detr-r50", 40), ("deformable-detr-two-stage-r50", 41)],
)
def test_it_is_as_large_as_published(name, millions):
    # Their tables count 91 classes.
    with torch.device("meta"):
        model = FocusDetrForObjectDetection(FocusDetrConfig.from_preset(name, num_labels=91))
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6) == millions


def test_schedules_differ_in_the_encoding_that_checkpoints_do_not_hold():
    for name in list_presets():
        config = FocusDetrConfig.from_preset(name)
        size = name.split("-")[-1]
        long = "ep" in size or "lite" in size or size == "nano" or name == "lite-dino-r50"
        expected = (20.0, 0.0) if long else (10000.0, -0.5)
        expected = (10000.0, 0.0) if config.host == "detr" else expected
        assert (config.position_temperature, config.position_offset) == expected, name


@pytest.mark.parametrize("name", [name for name in list_presets() if name.startswith("focus")])
def test_a_preset_keeps_three_tenths_of_the_tokens(name):
    config = FocusDetrConfig.from_preset(name)
    mean = config.keep_ratio * sum(config.cascade) / len(config.cascade)
    assert mean == pytest.approx(0.3)


def test_every_pair_of_host_and_policy_has_a_large_and_a_small_preset(built):
    pairs = {(host, name) for name in POLICIES.names() for host in POLICIES[name].hosts}
    for size in ("-r50", "-lite0"):
        models = [built(name).config for name in PLAIN if name.endswith(size)]
        assert {(config.host, config.token_policy) for config in models} == pairs


def test_focus_detr_is_also_named_by_its_host():
    aliases = {name: plain_name(name) for name in list_presets() if name.startswith("focus-dino-")}
    assert len(aliases) == sum(name.startswith("focus-detr-") for name in list_presets()) > 10
    for alias, name in aliases.items():
        assert FocusDetrConfig.from_preset(alias).to_dict() == FocusDetrConfig.from_preset(name).to_dict()
        assert recipe_for(alias) == name


def test_fields_can_be_overridden():
    config = FocusDetrConfig.from_preset("dino-lite0", num_labels=3, d_model=64)
    assert (config.num_labels, config.d_model, config.token_policy) == (3, 64, "dense")
    named = FocusDetrConfig.from_preset("focus-detr-lite0", id2label={0: "cat", 1: "dog"})
    assert named.num_labels == 2 and named.id2label[1] == "dog"


def test_unknown_presets_are_refused_with_a_hint():
    with pytest.raises(FocusDetrError, match="'focus-detr-r5' is not known .did you mean 'focus-detr-r50'"):
        FocusDetrConfig.from_preset("focus-detr-r5")
    with pytest.raises(FocusDetrError, match="(?s)num_queries.*many"):
        FocusDetrConfig.from_preset("focus-detr-r50", num_queries="many")
    with pytest.raises(FocusDetrError, match="unknown key 'nam_labels'"):
        FocusDetrConfig.from_preset("focus-detr-r50", nam_labels=3)


def test_the_page_on_the_family_names_every_preset_host_and_policy():
    page = (Path(__file__).parents[2] / "docs" / "family.md").read_text(encoding="utf-8")
    named = []
    for row in re.findall(r"^\| (`.*?) \| `[\w-]+` \| `[\w-]+` \|$", page, re.MULTILINE):
        family = ""
        for name in re.findall(r"`([^`]+)`", row):
            # "-r101" after "focus-detr-r50" is short for "focus-detr-r101".
            family = re.split(r"-(?:r\d|swin|lite\d)", name)[0] or family
            named.append(family + name if name.startswith("-") else name)
    assert sorted(named) == sorted(PLAIN)
    assert all(f"| `{name}` |" in page for name in [*HOSTS.names(), *POLICIES.names()])
