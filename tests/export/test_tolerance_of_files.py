"""INT8 files of a small model: which blocks are rounded, and which are given back."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image

from focus_detr.export import export
from focus_detr.images.processor import FocusDetrImageProcessor
from focus_detr.inference import Predictor
from helpers.small_models import SHALLOW, small_model

pytest.importorskip("nncf")
SIZE = (64, 96)
PROCESSOR = FocusDetrImageProcessor(size={"height": SIZE[0], "width": SIZE[1]})
BAD = "host.decoder.layers.0"


@pytest.fixture(scope="module")
def model():
    """One hidden value of a feed-forward network is huge and multiplied by nothing: only ranges see it."""
    model = small_model(**SHALLOW)
    ffn = model.get_submodule(f"{BAD}.ffn")
    with torch.no_grad():
        ffn.linear1.bias[0] = 1e5
        ffn.linear2.weight[:, 0] = 0
    return model


@pytest.fixture(scope="module")
def data(model, tmp_path_factory):
    """Pictures whose objects are what the model finds, so that its AP is high."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    (folder / "val").mkdir()
    for number in range(10):
        picture = Image.fromarray(rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8))
        name = f"{number}.png"
        picture.save(folder / "val" / name)
        images.append({"id": number, "file_name": name, "width": SIZE[1], "height": SIZE[0]})
        (found,) = Predictor(model, PROCESSOR).detect([picture], threshold=0.0)
        for box, label in zip(found.boxes_xyxy[:5].tolist(), found.labels[:5].tolist(), strict=True):
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": label + 1, "bbox": bbox,
                "area": bbox[2] * bbox[3], "iscrowd": 0,
            })  # fmt: skip
    names = model.config.id2label
    categories = [{"id": label + 1, "name": names[label]} for label in sorted(names)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances_val.json").write_text(json.dumps(content))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_block_made_bad_on_purpose_is_given_back(model, data, tmp_path, format):
    path = tmp_path / ("model.xml" if format == "openvino" else "model.onnx")
    export(
        copy.deepcopy(model), path, format, image_size=SIZE, batch_size=1, processor=PROCESSOR,
        precision="int8", calibration=str(data / "val"), max_drop=0.3, data=data,
    )  # fmt: skip
    found = json.loads(path.with_suffix(".blocks.json").read_text())
    assert next(iter(found["costs"])) == BAD == found["given_back"][0]
    assert found["drops"]["0"] > 0.3 >= found["drops"][str(len(found["given_back"]))]
