"""A model's folder with a file missing, cut short or of another model is refused, and the file named."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from focus_detr import FocusDetrError, Predictor
from focus_detr.training.finetuning import load_for_finetuning
from focus_detr.zoo.loading import load_image_processor, load_model


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path):
    path.write_bytes(b"")


def swapped(path):
    """Another file of the same folder in its place."""
    other = "config.json" if path.name != "config.json" else "preprocessor_config.json"
    shutil.copyfile(path.with_name(other), path)


def lack_a_tensor(path):
    state = load_file(path)
    del state[sorted(state)[5]]
    save_file(state, path, metadata={"format": "pt"})


def another_shape(path):
    state = load_file(path)
    name = next(name for name in state if name.startswith("neck") and name.endswith("weight"))
    state[name] = state[name][:1].clone()
    save_file(state, path, metadata={"format": "pt"})


def another_kind(path):
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "detr"}))


def another_type(path):
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_queries": [1]}))


def unknown_key(path):
    path.write_text(json.dumps({**json.loads(path.read_text()), "nonsense": 1}))


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("model.safetensors", cut, "cannot be read"),
        ("model.safetensors", lack_a_tensor, "lacks 1 parameters"),
        ("model.safetensors", another_shape, "cannot be read"),
        ("model.safetensors", lambda path: path.unlink(), "has no weights"),
        ("config.json", cut, "config.json cannot be read"),
        ("config.json", lambda path: path.write_text("[]"), "config.json cannot be read"),
        ("config.json", another_kind, "describes a 'detr' model"),
        ("config.json", unknown_key, "nonsense"),
        ("config.json", another_type, "'num_queries' expected int, got list"),
        ("model.safetensors", empty, "cannot be read"),
        ("config.json", empty, "config.json cannot be read"),
        ("preprocessor_config.json", empty, "preprocessor_config.json cannot be read"),
        ("model.safetensors", swapped, "cannot be read"),
        ("config.json", swapped, "config.json cannot be read"),
        ("preprocessor_config.json", swapped, "preprocessor_config.json cannot be read|unknown option"),
        ("preprocessor_config.json", cut, "preprocessor_config.json cannot be read"),
        ("preprocessor_config.json", lambda path: path.unlink(), "has no preprocessor_config.json"),
    ],
)
def test_damage_is_named(file, damage, message, tiny_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    damage(folder / file)
    with pytest.raises(FocusDetrError, match=message) as caught:
        Predictor.from_pretrained(folder)
    assert str(folder) in str(caught.value)
    if not file.startswith("preprocessor"):
        with pytest.raises(FocusDetrError, match=message):
            load_for_finetuning(folder, ["cell"])


@pytest.mark.parametrize(
    "change",
    [
        {"attn_implementation": "kernels-community/flash-attn"},
        {"_attn_implementation": "kernels-community/flash-attn"},
        {"attn_implementation": {"backbone_config": "any/kernel"}},
    ],
)
def test_a_kernel_of_the_hub_is_refused(tiny_model, tmp_path, change):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(FocusDetrError, match="code from the Hugging Face hub, which is not loaded"):
        load_model(folder)


def test_code_beside_a_model_is_not_asked_for(tiny_model, tmp_path):
    """transformers' `auto_map` names code to run; the classes that are here serve."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "strange.py").write_text("raise SystemExit")
    for file in ("config.json", "preprocessor_config.json"):
        content = json.loads((folder / file).read_text())
        content["auto_map"] = {
            "AutoConfig": "strange.C",
            "AutoModelForObjectDetection": "any/repo--strange.M",
        }
        (folder / file).write_text(json.dumps(content))
    assert load_model(folder).config.model_type == "focus_detr"
    load_image_processor(folder)
