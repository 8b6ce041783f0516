"""Fine-tuning keeps what fits, by class name where a tensor has a row for each class, and says so."""

import pytest
import torch

from focus_detr import FocusDetrConfig
from focus_detr.errors import FocusDetrError
from focus_detr.training import load_for_finetuning
from focus_detr.training.finetuning import with_classes
from helpers.tiny_training import TinyConfig, TinyDetector, small_focus_detr, tiny_detector


@pytest.fixture
def folder(tmp_path):
    tiny_detector().save_pretrained(tmp_path / "trained")
    return tmp_path / "trained"


def test_rows_of_known_classes_are_kept(folder):
    old = TinyDetector.from_pretrained(folder)
    torch.manual_seed(5)
    model, report = load_for_finetuning(
        folder, ["bird", "dog", "cow"], category_ids=[3, 5, 9], model_class=TinyDetector
    )
    assert model.config.id2label == {0: "bird", 1: "dog", 2: "cow"} and model.config.num_labels == 3
    assert torch.equal(model.class_head.weight[1], old.class_head.weight[1])
    assert torch.equal(model.class_head.bias[1], old.class_head.bias[1])
    assert torch.equal(model.label_embedding.weight[1], old.label_embedding.weight[1])
    torch.manual_seed(5)
    fresh = TinyDetector(TinyConfig(id2label=dict(enumerate(["bird", "dog", "cow"]))))
    assert torch.equal(model.class_head.weight[[0, 2]], fresh.class_head.weight[[0, 2]])
    kept = {name for name in old.state_dict() if name.startswith(("backbone", "norm", "box_head"))}
    assert set(report.kept) == kept
    assert all(torch.equal(model.state_dict()[name], old.state_dict()[name]) for name in kept)
    assert set(report.adapted) == {"class_head.weight", "class_head.bias", "label_embedding.weight"}
    assert (report.new, report.unused) == ([], [])
    assert (report.kept_classes, report.new_classes, report.dropped_classes) == (
        ["dog"],
        ["bird", "cow"],
        ["cat"],
    )
    for words in (
        "6 tensors kept",
        "adapted to the classes (3): class_head.weight",
        "new: bird, cow",
        "dropped: cat",
    ):
        assert words in str(report)


def test_classes_by_new_names_start_as_what_they_are_made_of(folder):
    old = TinyDetector.from_pretrained(folder)
    renamed = {"cat": "pet", "dog": "pet", "cow": "beast"}
    model, report = load_for_finetuning(folder, ["beast", "pet"], renamed=renamed, model_class=TinyDetector)
    for name in ("class_head.weight", "class_head.bias", "label_embedding.weight"):
        torch.testing.assert_close(model.state_dict()[name][1], old.state_dict()[name].mean(0))
    assert "classes kept: pet (of cat, dog); new: beast; dropped: none" in str(report)
    model, report = load_for_finetuning(folder, ["hound"], renamed={"dog": "hound"}, model_class=TinyDetector)
    assert torch.equal(model.class_head.weight[0], old.class_head.weight[1])
    assert report.made_of == {"hound": ["dog"]} and report.dropped_classes == ["cat"]
    model, _ = load_for_finetuning(folder, ["dog"], renamed={"cat": "dog"}, model_class=TinyDetector)
    assert torch.equal(model.class_head.weight[0], old.class_head.weight[1])  # what it knows by that name


def test_thresholds_stay_with_the_classes_that_stay():
    config = FocusDetrConfig(
        id2label={0: "cat", 1: "dog"},
        label2id={"cat": 0, "dog": 1},
        class_thresholds={"cat": 0.2, "dog": 0.3},
    )
    assert with_classes(config, ["dog", "cow"]).class_thresholds == {"dog": 0.3}


def test_what_was_found_by_the_old_weights_is_forgotten():
    rule = {"share": 0.9, "background": 0.1, "buckets": [0.1, 0.5]}
    config = FocusDetrConfig(
        decoder_layers=2, used_decoder_layers=1, budget="auto", auto_budget=rule,
        settings={"fast": {"budget": 0.1}},
    )  # fmt: skip
    new = with_classes(config, ["dog"])
    assert new.used_decoder_layers is new.budget is new.auto_budget is None and new.settings == {}
    assert with_classes(FocusDetrConfig(budget=0.2), ["dog"]).budget == 0.2


def test_same_classes_keep_everything(folder):
    model, report = load_for_finetuning(folder, ["cat", "dog"], model_class=TinyDetector)
    old = TinyDetector.from_pretrained(folder)
    assert all(torch.equal(value, old.state_dict()[name]) for name, value in model.state_dict().items())
    assert (report.adapted, report.new, report.unused) == ([], [], [])


def test_other_names_for_as_many_classes_start_new(folder):
    model, report = load_for_finetuning(folder, ["ship", "sea"], model_class=TinyDetector)
    old = TinyDetector.from_pretrained(folder)
    assert not torch.equal(model.class_head.weight, old.class_head.weight)
    assert set(report.new) == {"class_head.weight", "class_head.bias", "label_embedding.weight"}


def test_swapped_classes_are_swapped(folder):
    model, _ = load_for_finetuning(folder, ["dog", "cat"], model_class=TinyDetector)
    old = TinyDetector.from_pretrained(folder)
    assert torch.equal(model.class_head.weight, old.class_head.weight.flip(0))


def test_overridden_shapes_start_new(folder):
    model, report = load_for_finetuning(folder, ["cat", "dog"], model_class=TinyDetector, width=4)
    assert model.config.width == 4
    assert "norm.weight" in report.new and "box_head.bias" in report.kept


def test_focus_detr(tmp_path):
    old = small_focus_detr()
    old.save_pretrained(tmp_path / "trained")
    model, report = load_for_finetuning(tmp_path / "trained", ["dog", "bird", "cow"], category_ids=[7, 8, 9])
    heads = [name for name in old.state_dict() if "class_head" in name]
    assert len(heads) == 2 * (old.config.decoder_layers + 1)
    assert set(report.adapted) == {*heads, "host.label_embedding.weight"}
    assert torch.equal(model.proposals.class_head.weight[0], old.proposals.class_head.weight[1])
    assert (report.new, report.unused, model.config.category_ids) == ([], [], [7, 8, 9])


def test_options_that_are_not_named_stay_the_model_s(tmp_path):
    old = small_focus_detr()
    old.save_pretrained(tmp_path / "trained")

    def options(**overrides):
        model, report = load_for_finetuning(tmp_path / "trained", ["cat", "dog"], **overrides)
        return model.config.policy_options, report

    before = old.config.to_dict()["policy_options"]
    after, report = options(policy_options={"reactivation": True})
    assert after == {**before, "reactivation": True}
    assert report.new and all("rescorers" in name for name in report.new)
    assert options(keep_ratio=0.37)[0] == {**before, "keep_ratio": 0.37}
    assert options(token_policy="dense")[0] == {}


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_unusable_classes(folder, names):
    with pytest.raises(FocusDetrError, match="must be one or more different names"):
        load_for_finetuning(folder, names, model_class=TinyDetector)
