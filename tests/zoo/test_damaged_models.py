"""A model's folder with a file missing, cut short or of another model is refused, and the file named."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from focus_detr import FocusDetrError, Predictor
from focus_detr.training.finetuning import load_for_finetuning


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


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
