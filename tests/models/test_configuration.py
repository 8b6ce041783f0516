"""The configuration is strict, complete and saved."""

import json

import pytest

from focus_detr import FocusDetrConfig, FocusDetrForObjectDetection
from focus_detr.errors import FocusDetrError
from focus_detr.models.configuration import Quirks
from focus_detr.models.options import FORMER, in_place
from focus_detr.models.policies import POLICIES

# Another value than the default for every field of its own.
CHANGED = {
    "freeze_stem": True,
    "freeze_stages": 2,
    "train_norm_affine": True,
    "num_levels": 5,
    "neck_norm": False,
    "d_model": 64,
    "attention_heads": 4,
    "num_points": 2,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_ffn_dim": 100,
    "decoder_ffn_dim": 101,
    "dropout": 0.1,
    "position_temperature": 20.0,
    "position_offset": 0.0,
    "host": "deformable-detr",
    "host_options": {"two_stage": True},
    "token_policy": "sparse",
    "policy_options": {"auxiliary_losses": False, "keep_ratio": 0.3},
    "num_queries": 90,
    "budget": 0.4,
    "auto_budget": {"share": 0.9, "background": 0.1, "buckets": [0.1, 0.4]},
    "used_decoder_layers": 1,
    "settings": {"fast": {"budget": 0.2}},
    "activation_ranges": {"neck": [-1.0, 2.0]},
    "num_detections": 31,
    "class_cost": 0.3,
    "bbox_cost": 0.4,
    "giou_cost": 0.6,
    "class_loss_coefficient": 0.7,
    "bbox_loss_coefficient": 0.8,
    "giou_loss_coefficient": 0.9,
    "focal_alpha": 0.35,
    "focal_gamma": 1.2,
    "category_ids": [3, 17],
    "score_threshold": 0.4,
    "class_thresholds": {"dog": 0.3},
    "training_recipe": {"epochs": 3},
}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"keep_ration": 0.3}, "unknown key 'keep_ration' .did you mean 'keep_ratio'"),
        ({"keep_ratio": 0}, "keep_ratio'.=0: must lie in .0, 1."),
        ({"policy_options": {"keep_ratio": 1.5}}, "policy_options..keep_ratio..=1.5"),
        ({"cascade": [1.0, 0.5]}, "needs one share for each of the 6 encoder layers"),
        ({"cascade": [0.2, 0.4, 0.4, 0.4, 0.4, 0.4]}, "must not increase"),
        ({"cascade": [1.0, 0.8, 0.6, 0.6, 0.4, 0.0]}, "must lie in .0, 1."),
        ({"attention_heads": 7}, "d_model=256: must be a multiple"),
        ({"d_model": 30, "attention_heads": 5}, "d_model=30: must be a multiple of 4"),
        ({"num_queries": 0}, "num_queries=0: must be at least 1"),
        ({"foreground_ranges": [64.0]}, "needs 3 increasing positive bounds"),
        ({"foreground_ranges": [64.0, 32.0, 256.0]}, "needs 3 increasing positive bounds"),
        ({"quirks": "modern"}, "quirks='modern': not known; use 'original', 'corrected' or a dict"),
        ({"quirks": {"batch_fil": True}}, "unknown switch 'batch_fil' .did you mean 'batch_fill'"),
        ({"quirks": {"batch_fill": 1}}, "quirks.'batch_fill'.=1: must be true or false"),
        ({"num_labels": 3, "category_ids": [1, 7]}, "category_ids has 2 entries for 3 classes"),
        ({"num_labels": 2, "category_ids": [7, 7]}, "an id stands for two classes"),
        ({"foreground_ranges": [64.0, 64.0, 128.0]}, "needs 3 increasing positive bounds"),
        ({"foreground_ranges": [-1.0, 64.0, 128.0]}, "needs 3 increasing positive bounds"),
        ({"num_levels": 2}, "num_levels=2: the backbone gives 3 maps"),
        ({"num_labels": 0}, "at least one class"),
        ({"giou_cost": -1.0}, "giou_cost=-1.0"),
        ({"focal_gamma": -2.0}, "focal_gamma=-2.0"),
        ({"class_thresholds": {"cat": 1.5}}, "class_thresholds.'cat'.=1.5: must be a score"),
        ({"class_thresholds": {"cat": "high"}}, "class_thresholds.'cat'.='high'"),
    ],
)
def test_unusable_values_are_refused(values, message):
    with pytest.raises(FocusDetrError, match=message):
        FocusDetrConfig(**values)


@pytest.mark.parametrize(
    "values", [{"token_policy": "sparse-ish"}, {"num_queries": "many"}, {"dropout": "no"}]
)
def test_wrong_types_are_refused(values):
    with pytest.raises(Exception, match=next(iter(values))):
        FocusDetrConfig(**values)


def test_every_field_survives_saving(tmp_path):
    quirks = {"frozen_values": True}
    backbone = {"model_type": "resnet", "depths": [1, 1, 1, 1], "out_features": ["stage3", "stage4"]}
    config = FocusDetrConfig(
        **CHANGED,
        id2label={0: "cat", 1: "dog"},
        label2id={"cat": 0, "dog": 1},
        quirks=quirks,
        backbone_config=backbone,
    )
    others = {"quirks", "backbone_config", "plugins", "heads", "head_options"}
    assert CHANGED.keys() | others == set(FocusDetrConfig.__annotations__)
    config.save_pretrained(tmp_path)
    loaded, default = FocusDetrConfig.from_pretrained(tmp_path), FocusDetrConfig()
    for name, value in CHANGED.items():
        found = getattr(loaded, name)
        # Files have all options, those that were not named too.
        same = found == value if not isinstance(value, dict) else found.items() >= value.items()
        assert same and value != getattr(default, name), name
    assert loaded.switches == Quirks(frozen_values=True) != default.switches
    assert loaded.backbone_config.depths == [1, 1, 1, 1]
    assert loaded.backbone_config.out_features == ["stage3", "stage4"]
    assert loaded.id2label == {0: "cat", 1: "dog"} and loaded.num_labels == 2


def test_a_saved_file_is_read_as_strictly(tmp_path):
    FocusDetrConfig().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    for key, value, message in (
        ("keep_ration", 0.3, "unknown key 'keep_ration' .did you mean 'keep_ratio'"),
        ("policy_options", {"cascade": [1.0]}, "one share for each of the 6"),
        ("policy_options", {"keep_ration": 0.3}, "policy_options: unknown key 'keep_ration' .did you mean"),
        ("quirks", {"batch_fil": True}, "unknown switch 'batch_fil' .did you mean 'batch_fill'"),
    ):
        saved = json.loads(path.read_text())
        path.write_text(json.dumps(saved | {key: value}))
        with pytest.raises(FocusDetrError, match=message):
            FocusDetrConfig.from_pretrained(tmp_path)
        path.write_text(json.dumps(saved))


@pytest.mark.parametrize("levels", [1, 3, 5])
def test_ranges_follow_the_levels(levels):
    backbone = {"model_type": "resnet", "out_features": ["stage2", "stage3", "stage4"][-levels:]}
    config = FocusDetrConfig(num_levels=levels, backbone_config=backbone)
    policy = POLICIES["focus"](config)
    assert policy.foreground_ranges == (64.0, 128.0, 256.0, 512.0)[: levels - 1]


def test_the_names_of_transformers_work():
    config = FocusDetrConfig(d_model=64, attention_heads=4)
    assert (config.hidden_size, config.num_attention_heads) == (64, 4)


def test_the_dense_policy_needs_no_cascade():
    assert FocusDetrConfig(token_policy="dense", encoder_layers=2).encoder_layers == 2
    with pytest.raises(FocusDetrError, match="cascade"):
        FocusDetrConfig(token_policy="focus", encoder_layers=2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("denoising_queries", -5),
        ("dropout", 2.0),
        ("label_noise", 9.0),
        ("box_noise", -1.0),
        ("focal_alpha", 3.0),
        ("score_threshold", -3.0),
        ("freeze_stages", -2),
        ("position_temperature", float("nan")),
    ],
)
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(FocusDetrError, match=f"{name}(..)?={value}"):
        FocusDetrConfig(**in_place({name: value}))


@pytest.mark.parametrize("backbone", [{"depths": [1, 1, 1, 1]}, {"model_type": "resnext"}])
def test_a_backbone_configuration_that_is_none_is_refused(backbone):
    with pytest.raises(FocusDetrError, match="backbone_config"):
        FocusDetrConfig(backbone_config=backbone)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("keep_ratio", 7.0, "keep_ratio'.=7.0: must lie in .0, 1."),
        ("cascade", [0.1, 0.9], "one share for each of the 6"),
        ("cascade", [0.1, 0.9, 0.9, 0.9, 0.9, 0.9], "must not increase"),
        ("denoising_queries", -1, "denoising_queries'.=-1"),
        ("dropout", -1.0, "dropout=-1.0"),
        ("num_queries", 0, "num_queries=0: must be at least 1"),
        ("hidden_size", 0, "d_model=0: must be at least 1"),
        ("quirks", {"batch_fil": True}, "unknown switch 'batch_fil' .did you mean 'batch_fill'"),
    ],
)
def test_a_value_set_later_is_checked_as_one_given(name, value, message):
    config = FocusDetrConfig()
    before = getattr(config, name)
    with pytest.raises(FocusDetrError, match=message):
        setattr(config, name, value)
    assert getattr(config, name) == before


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("policy_options", {"cascade": [0.1, 0.9]}, "one share for each of the 6"),
        ("encoder_layers", 3, "one share for each of the 3"),
        ("attention_heads", 7, "d_model=256: must be a multiple"),
        ("token_policy", "full-attention", "does not work with host='dino'"),
    ],
)
def test_what_no_longer_goes_together_makes_no_model(name, value, message):
    config = FocusDetrConfig()
    setattr(config, name, value)
    with pytest.raises(FocusDetrError, match=message):
        FocusDetrForObjectDetection(config)


def test_whole_numbers_are_shares_too():
    options = {"cascade": [1, 0.6, 0.2]}
    assert FocusDetrConfig(encoder_layers=3, policy_options=options).cascade == (1, 0.6, 0.2)


FLAT = {"keep_ratio": 0.3, "num_fine_tokens": 30, "denoising_queries": 7, "label_noise": 0.1}


def test_flat_names_are_options_for_another_version_with_a_warning():
    with pytest.warns(FutureWarning) as told:
        config = FocusDetrConfig(**FLAT, policy_options={"top_down": False})
    assert config.policy_options == {"keep_ratio": 0.3, "num_fine_tokens": 30, "top_down": False}
    assert config.host_options == {"denoising_queries": 7, "label_noise": 0.1}
    messages = {str(each.message) for each in told}
    assert "keep_ratio is now said as policy_options={'keep_ratio': ...}" in messages
    assert "label_noise is now said as host_options={'label_noise': ...}" in messages
    # They are read and set by those names, too.
    assert (config.keep_ratio, config.denoising_queries, config.box_noise) == (0.3, 7, 1.0)
    config.keep_ratio = 0.4
    assert config.policy_options["keep_ratio"] == 0.4 and config.keep_ratio == 0.4


@pytest.mark.parametrize(
    ("pair", "policy", "host"),
    [
        ({}, {"keep_ratio": 0.3, "cascade": [1.0] * 6, "num_fine_tokens": 9}, {"denoising_queries": 5}),
        ({"token_policy": "sparse"}, {"keep_ratio": 0.3}, {"denoising_queries": 5}),
        ({"token_policy": "dense", "host": "deformable-detr"}, {}, {}),
        ({"token_policy": "dense", "host": "dn-deformable-detr"}, {}, {}),
    ],
)
def test_files_of_before_load_without_a_word(tmp_path, recwarn, pair, policy, host):
    FocusDetrConfig(**pair).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    flat = {"keep_ratio": 0.3, "cascade": [1.0] * 6, "num_fine_tokens": 9, "denoising_queries": 5}
    # They had none of the first classes' options in their place.
    before = json.loads(path.read_text()) | {"policy_options": {}, "host_options": {}}
    path.write_text(json.dumps(before | flat))
    config = FocusDetrConfig.from_pretrained(tmp_path)
    assert (config.policy_options, config.host_options) == (policy, host)
    assert not [each for each in recwarn if each.category is FutureWarning]
    config.save_pretrained(tmp_path)
    assert not set(json.loads(path.read_text())) & set(FORMER)


def test_an_option_that_nobody_has_is_no_attribute():
    config = FocusDetrConfig(token_policy="dense")
    assert not hasattr(config, "keep_ratio") and config.denoising_queries == 100
    with pytest.raises(FocusDetrError, match="keep_ratio=0.3: neither token_policy='dense' nor host='dino'"):
        config.keep_ratio = 0.3


def test_what_transformers_trainer_leaves_in_a_configuration_is_no_unknown_key(tmp_path):
    config = FocusDetrConfig()
    config.use_cache = False
    config.save_pretrained(tmp_path)
    assert FocusDetrConfig.from_pretrained(tmp_path).num_queries == config.num_queries
