"""The detector for prediction alone: the same answers, without what it takes to train and save."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from focus_detr.errors import FocusDetrError
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.models import FocusDetrForObjectDetection
from focus_detr.zoo.loading import load_detector, load_image_processor, load_model
from focus_detr.zoo.presets import preset
from focus_detr.zoo.resolve import resolve_model
from helpers.pairs import PAIRS

NOT_TO_PREDICT = (
    "transformers.modeling_utils", "transformers.generation.utils", "transformers.models.auto",
    "torch._dynamo", "torch._inductor", "sympy", "scipy", "accelerate", "matplotlib", "supervision", "pandas",
    "torchvision", "faster_coco_eval", "onnx", "onnxruntime", "openvino", "fastapi", "requests",
)  # fmt: skip
"""What takes longer to import than a picture to detect, and is for other things."""

TINY = {
    "d_model": 16,
    "attention_heads": 2,
    "encoder_layers": 3,
    "decoder_layers": 1,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "num_queries": 10,
}


def saved(folder: Path, **overrides: object) -> Path:
    torch.manual_seed(0)
    model = FocusDetrForObjectDetection(preset("focus-detr-lite0", **{**TINY, **overrides}))
    model.save_pretrained(folder)
    FocusDetrImageProcessor(size=64).save_pretrained(folder)
    return folder


def assert_alike(folder: Path) -> None:
    bare, processor = load_detector(folder)
    whole = load_model(folder, "auto")
    assert not isinstance(bare, FocusDetrForObjectDetection)
    assert list(bare.state_dict()) == list(whole.state_dict())
    assert bare.strides == whole.strides
    pictures = torch.rand(2, 3, 96, 64)
    mask = torch.ones(2, 96, 64, dtype=torch.long)
    mask[1, 70:] = 0
    with torch.inference_mode():
        found, expected = (model.eval()(pictures, mask) for model in (bare, whole))
    assert torch.equal(found.logits, expected.logits) and torch.equal(found.pred_boxes, expected.pred_boxes)
    settings = vars(load_image_processor(folder))
    assert all(settings[name] == value for name, value in vars(processor).items())


@pytest.mark.parametrize("name", ["everyday", "blood-cells"])
def test_bundled_models_answer_to_the_bit_as_those_that_can_be_trained(name: str) -> None:
    assert_alike(resolve_model(name))


@pytest.mark.slow
@pytest.mark.parametrize("host, policy", PAIRS)
def test_every_pair_of_host_and_policy_does(host: str, policy: str, tmp_path: Path) -> None:
    assert_alike(saved(tmp_path, host=host, token_policy=policy))


def test_other_models_are_loaded_as_ever(tmp_path: Path) -> None:
    model = FocusDetrForObjectDetection(
        preset("focus-detr-lite0", **TINY, backbone_config={
            "model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1],
            "out_features": ["stage2", "stage3", "stage4"],
        })
    )  # fmt: skip
    model.save_pretrained(tmp_path)
    FocusDetrImageProcessor(size=64).save_pretrained(tmp_path)
    assert isinstance(load_detector(tmp_path)[0], FocusDetrForObjectDetection)


def test_what_is_damaged_is_said_as_ever(tmp_path: Path) -> None:
    file = saved(tmp_path) / "model.safetensors"
    state = load_file(file)
    save_file({name: value for name, value in state.items() if "level_embedding" not in name}, file)
    with pytest.raises(FocusDetrError, match="lacks 1 parameters"):
        load_detector(tmp_path)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(FocusDetrError, match="copy or train the model again"):
        load_detector(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "focus_detr", "num_queris": 3}))
    with pytest.raises(FocusDetrError, match="num_queries"):
        load_detector(tmp_path)


def test_names_that_parameters_once_had_are_known(tmp_path: Path) -> None:
    file = saved(tmp_path) / "model.safetensors"
    state = {
        name.replace("host.class_heads", "host.decoder.class_heads"): v for name, v in load_file(file).items()
    }
    save_file(state, file)
    assert_alike(tmp_path)


_TRANSFORMERS = tuple(int(part) for part in version("transformers").split(".")[:2])


@pytest.mark.skipif(_TRANSFORMERS < (5, 23), reason="older transformers import more by themselves")
def test_a_prediction_imports_nothing_that_is_slow_and_not_for_it(picture_file: Path) -> None:
    program = (
        "import sys; from focus_detr.cli.app import app\n"
        "try: app(['predict', 'everyday', sys.argv[1], '--device', 'cpu'])\n"
        "except SystemExit as end: assert not end.code\n"
        "print('imported', *sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(picture_file)], capture_output=True, text=True, check=True
    )
    assert "person" in ran.stdout or "all" in ran.stdout, ran.stderr
    imported = ran.stdout.split("imported", 1)[1].split()
    assert "torch" in imported
    assert [name for name in NOT_TO_PREDICT if name in imported] == []


@pytest.fixture
def picture_file() -> Path:
    return Path(__file__).parents[2] / "examples" / "everyday" / "desk.jpg"
