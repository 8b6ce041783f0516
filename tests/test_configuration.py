"""The configuration is strict, complete and saved."""

import pytest
import torch

from focus_detr import FocusDetrConfig, FocusDetrForObjectDetection, list_presets
from focus_detr.errors import FocusDetrError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"keep_ration": 0.3}, "unknown key 'keep_ration' .did you mean 'keep_ratio'"),
        ({"keep_ratio": 0}, "keep_ratio=0: must lie in .0, 1."),
        ({"keep_ratio": 1.5}, "keep_ratio=1.5"),
        ({"cascade": [1.0, 0.5]}, "needs one share for each of the 6 encoder layers"),
        ({"cascade": [0.2, 0.4, 0.4, 0.4, 0.4, 0.4]}, "must not increase"),
        ({"cascade": [1.0, 0.8, 0.6, 0.6, 0.4, 0.0]}, "must lie in .0, 1."),
        ({"attention_heads": 7}, "d_model=256: must be a multiple"),
        ({"num_queries": 0}, "num_queries=0: must be at least 1"),
        ({"foreground_ranges": [64.0]}, "needs 3 increasing bounds"),
        ({"foreground_ranges": [64.0, 32.0, 256.0]}, "needs 3 increasing bounds"),
        ({"num_labels": 3, "category_ids": [1, 7]}, "category_ids has 2 entries for 3 classes"),
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
    config = FocusDetrConfig.from_preset(
        "focus-detr-lite0",
        id2label={0: "cat", 1: "dog"},
        label2id={"cat": 0, "dog": 1},
        category_ids=[3, 17],
        keep_ratio=0.3,
        cascade=[1.0, 0.5, 0.1],
        score_threshold=0.4,
        quirks={"frozen_values": True},
    )
    config.save_pretrained(tmp_path)
    loaded = FocusDetrConfig.from_pretrained(tmp_path)
    before, after = config.to_dict(), loaded.to_dict()
    for volatile in ("transformers_version", "_name_or_path"):
        before.pop(volatile, None), after.pop(volatile, None)
    assert before == after
    assert loaded.id2label == {0: "cat", 1: "dog"} and loaded.num_labels == 2


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_builds(name):
    with torch.device("meta"):
        model = FocusDetrForObjectDetection(FocusDetrConfig.from_preset(name))
    assert model.config.num_labels == 80
    assert (model.selector is None) == (model.config.token_policy == "dense")
    assert model.strides == [8, 16, 32, 64]


@pytest.mark.parametrize(("name", "millions"), [("focus-detr-r50", 49.34), ("dino-r50", 47.65)])
def test_sizes_are_the_originals(name, millions):
    with torch.device("meta"):
        model = FocusDetrForObjectDetection(FocusDetrConfig.from_preset(name))
    # The original counts the scale and shift of frozen norms; their running statistics are buffers there too.
    frozen = {"running_mean", "running_var", "num_batches_tracked"}
    count = sum(
        value.numel() for key, value in model.state_dict().items() if key.split(".")[-1] not in frozen
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert round(count / 1e6, 2) == millions or round(parameters / 1e6, 2) == millions


def test_unknown_presets_are_refused_with_a_hint():
    with pytest.raises(FocusDetrError, match="'focus-detr-r5' is not known; did you mean 'focus-detr-r50'"):
        FocusDetrConfig.from_preset("focus-detr-r5")
    with pytest.raises(FocusDetrError, match="(?s)num_queries.*many"):
        FocusDetrConfig.from_preset("focus-detr-r50", num_queries="many")
    with pytest.raises(FocusDetrError, match="unknown key 'nam_labels'"):
        FocusDetrConfig.from_preset("focus-detr-r50", nam_labels=3)
