"""Weights saved with names that parameters once had load like any others, and are trained on."""

import copy

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from focus_detr import FocusDetrForObjectDetection
from focus_detr.models.renamed import RENAMED
from focus_detr.training.distributed_model import DistributedModel
from focus_detr.training.ema import build_ema
from focus_detr.training.recipe import Recipe
from focus_detr.training.saving import load_weights, read_state
from helpers.small_models import batch, image, small_model

REFINED = {"host": "deformable-detr", "host_options": {"box_refinement": True}, "token_policy": "dense"}
HOSTS = {"dino": {}, "dn-deformable-detr": {"host": "dn-deformable-detr"}, "deformable-detr": REFINED}


def aged(state):
    """``state`` with the names of old, and how many of its tensors have others now."""
    names = {}
    for key in state:
        names[key] = key
        for old, new in RENAMED.items():
            names[key] = names[key].replace(f"{new}.", f"{old}.")
    return {names[key]: value for key, value in state.items()}, sum(a != b for a, b in names.items())


@pytest.fixture(params=HOSTS, scope="module")
def model(request):
    return small_model(**HOSTS[request.param])


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path)
    old, changed = aged(load_file(tmp_path / "model.safetensors"))
    assert changed >= 4 * model.config.decoder_layers
    save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


@torch.no_grad()
def test_a_folder_of_old_names_gives_the_same_digits(model, folder):
    loaded, report = FocusDetrForObjectDetection.from_pretrained(
        folder, dtype=torch.float64, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    inputs = batch([image(64, 96)])
    for ours, theirs in zip(
        loaded.eval()(*inputs).to_tuple()[:2], model(*inputs).to_tuple()[:2], strict=True
    ):
        # In float64: some processors' products differ in the last digit where weights lie elsewhere.
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_what_was_loaded_with_old_names_is_saved_so_that_it_loads_again(folder, tmp_path):
    FocusDetrForObjectDetection.from_pretrained(folder).save_pretrained(tmp_path / "again")
    _, report = FocusDetrForObjectDetection.from_pretrained(tmp_path / "again", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]


def test_a_checkpoint_of_old_names_is_gone_on_from(model, folder):
    other = small_model(seed=1, **{"host": model.config.host, **HOSTS[model.config.host]})
    load_weights(DistributedModel(other, Recipe(), 1, Accelerator(cpu=True)), folder)
    ema = build_ema(copy.deepcopy(model), 0.9, 10)
    old, changed = aged(ema.state_dict())
    assert changed
    torch.save(old, folder / "ema.pt")
    average = build_ema(other, 0.9, 10)
    torch.nn.init.ones_(average.module.host.class_heads[0].weight)
    read_state(average, folder / "ema.pt")
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
        assert torch.equal(average.module.state_dict()[name], value), name


def test_no_name_of_today_is_one_of_old(model):
    for key in model.state_dict():
        assert not any(key.startswith(f"{old}.") for old in RENAMED)
