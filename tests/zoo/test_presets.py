"""Every preset builds, and those of the paper are as large as the original."""

import re
from pathlib import Path

import pytest
import torch

from focus_detr import FocusDetrConfig, FocusDetrForObjectDetection, list_presets
from focus_detr.errors import FocusDetrError
from focus_detr.models.hosts import HOSTS
from focus_detr.models.policies import POLICIES
from focus_detr.training.recipe import list_recipes, load_recipe
from focus_detr.zoo.presets import _FORMER, is_preset, preset, preset_recipe, preset_weights

# The preset of each host, at both sizes, that any pair is said by.
BASES = {
    "dino": ("dino-r50", "dino-lite0"),
    "deformable-detr": ("deformable-r50", "deformable-lite0"),
    "dn-deformable-detr": ("dn-deformable-r50", "dn-deformable-lite0"),
    "salience-detr": ("salience-detr-r50",),
    "detr": ("detr-r50", "detr-lite0"),
}
PAIRS = [
    (base, host, policy)
    for policy in ("focus", "dense", "sparse", "interleaved", "salience", "full-attention", "poll-and-pool")
    for host in HOSTS.names()
    if POLICIES[policy].works_with(host)
    for base in BASES[host]
]


@pytest.fixture(scope="module")
def built():
    """Models by preset and what is said on top, without weights, each built once."""
    models = {}

    def build(name, **said):
        key = (name, *said.items())
        if key not in models:
            with torch.device("meta"):
                models[key] = FocusDetrForObjectDetection(preset(name, **said))
        return models[key]

    return build


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_builds_and_its_recipe_is_there(name, built):
    model = built(name)
    assert model.config.num_labels == 80
    assert load_recipe(preset_recipe(name)).name in list_recipes()
    strides = {"detr-r50": [32], "detr-lite0": [32], "focus-detr-nano": [16, 32, 64]}
    strides["focus-detr-yolox-nano"] = [8, 16, 32]
    assert model.strides == strides.get(name, [8, 16, 32, 64])


@pytest.mark.parametrize(("base", "host", "policy"), PAIRS)
def test_any_pair_of_host_and_policy_is_said(base, host, policy, built):
    model = built(base, token_policy=policy)
    config = model.config
    assert (config.host, config.token_policy) == (host, policy)
    assert hasattr(model.encoder, "selector") == (policy in ("focus", "salience"))
    # And it is the same whichever of the pair is said on top of the other.
    others = built("dino-r50" if base.endswith("r50") else "dino-lite0", host=host, token_policy=policy)
    assert others.config.to_dict() == config.to_dict()


def test_the_pairs_are_all_there_are():
    assert {(host, policy) for _, host, policy in PAIRS} == {
        (host, name) for name in POLICIES.names() for host in HOSTS.names() if POLICIES[name].works_with(host)
    }


def test_a_pair_brings_what_it_needs_and_what_is_said_goes_before_it():
    config = preset("deformable-r50", token_policy="salience")
    assert config.host_options["class_proposals"] and config.foreground_loss_coefficient == 2.0
    assert preset("dino-r50", token_policy="interleaved").policy_options["blocks"] == 3
    assert preset("dino-lite0", token_policy="interleaved").policy_options["blocks"] == 1
    assert preset("dino-r50", token_policy="sparse").keep_ratio == 0.3
    assert preset("dino-r50", token_policy="sparse", keep_ratio=0.2).keep_ratio == 0.2
    # What another policy's preset has of its own does not stay behind.
    assert preset("lite-dino-r50", token_policy="focus").policy_options == {}
    assert preset("dino-r50", token_policy="focus").to_dict() == preset("focus-detr-r50").to_dict()


def test_a_backbone_is_said_with_its_weight():
    config = preset("focus-detr-lite0", backbone="resnet101")
    assert config.backbone_config.depths == [3, 4, 23, 3] and config.d_model == 128
    assert preset_weights("focus-detr-lite0", backbone="resnet101") == "resnet101"
    assert preset_weights("focus-detr-lite0") == "efficientnet-lite0"
    with pytest.raises(
        FocusDetrError, match=r"'resnet11' is not known \(did you mean 'resnet1?0?1?.*known: "
    ):
        preset("focus-detr-lite0", backbone="resnet11")


@pytest.mark.parametrize(
    ("former", "name", "said"),
    [
        ("focus-dino-r50", "focus-detr-r50", {}),
        ("focus-dino-lite2", "focus-detr-lite0", {"backbone": "efficientnet-lite2"}),
        ("sparse-deformable-r50", "deformable-r50", {"token_policy": "sparse"}),
        ("lite-dn-deformable-lite0", "dn-deformable-lite0", {"token_policy": "interleaved"}),
        ("pnp-detr-lite0", "detr-lite0", {"token_policy": "poll-and-pool"}),
        ("dino-swin-tiny", "dino-r50", {"backbone": "swin-tiny-224"}),
        ("deformable-detr-two-stage-r50", "deformable-r50", {}),
    ],
)
def test_former_names_still_work_and_say_what_to_write_instead(former, name, said):
    assert is_preset(former) and former not in list_presets()
    with pytest.warns(FutureWarning, match=rf"'{former}' is now said: preset\('{name}'.*--model {name}"):
        config = preset(former)
    assert config.to_dict() == preset(name, **said).to_dict()
    with pytest.warns(FutureWarning):
        assert preset_recipe(former) == preset_recipe(name)


def test_every_former_name_is_a_configuration():
    assert len(_FORMER) > 40 and not set(_FORMER) & set(list_presets())
    for former in _FORMER:
        with pytest.warns(FutureWarning):
            preset(former)


@pytest.mark.parametrize(
    ("name", "trained"),
    [
        ("dino-r50", True),
        ("deformable-detr-r50", False),
        ("deformable-r50", False),
        ("detr-r50", False),
        ("salience-detr-r50", False),
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
    count = [
        sum(p.numel() for p in built("dino-r50", token_policy=policy).parameters())
        for policy in ("salience", "focus")
    ]
    assert count[0] - count[1] == 2 * 200 * 128


@pytest.mark.parametrize(
    ("name", "millions"),
    [("deformable-detr-r50", 40), ("deformable-r50", 41)],
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
    rows = re.findall(
        r"^\| `([\w-]+)` \| `([\w-]+)` \| `([\w-]+)` \| `([\w-]+)` \| `([\w-]+)` \|$", page, re.M
    )
    said = [
        (name, config.host, config.token_policy, preset_weights(name), preset_recipe(name))
        for name, config in ((name, preset(name)) for name in list_presets())
    ]
    assert rows == said
    assert all(f"| `{name}` |" in page for name in [*HOSTS.names(), *POLICIES.names()])
