"""A model repository for Triton: the layout, and a configuration that says what the file takes and gives."""

import json
import re

import numpy as np
import onnx
import pytest

from focus_detr.errors import FocusDetrError
from focus_detr.export import export, load_exported
from focus_detr.export.metadata import Metadata
from focus_detr.export.triton import configuration
from focus_detr.images.processor import FocusDetrImageProcessor
from helpers.small_models import SHALLOW, small_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Of a small model for two pictures of one size."""
    folder = tmp_path_factory.mktemp("triton") / "repository"
    processor = FocusDetrImageProcessor(size=64)
    return export(
        small_model(**SHALLOW), folder, "triton", image_size=(64, 96), batch_size=2, processor=processor
    )


def said(text, field):
    return re.findall(rf"\b{field}: (\[[^]]*\]|\S+)", text)


def test_the_repository_is_laid_out_as_triton_looks_for_it(repository):
    files = {str(file.relative_to(repository)) for file in repository.rglob("*") if file.is_file()}
    assert files == {"model/config.pbtxt", "model/labels.txt", "model/1/model.onnx"}
    assert (repository / "model/labels.txt").read_text() == "LABEL_0\nLABEL_1\nLABEL_2\n"
    assert repository.stat().st_mode & 0o055 == 0o055  # the server is another user


def test_the_configuration_says_what_the_graph_takes_and_gives(repository):
    text = (repository / "model/config.pbtxt").read_text()
    graph = onnx.load(repository / "model/1/model.onnx").graph
    sizes = [
        [size.dim_value for size in each.type.tensor_type.shape.dim] for each in (*graph.input, *graph.output)
    ]
    assert [json.loads(each) for each in said(text, "dims")] == sizes
    names = [each.name for each in (*graph.input, *graph.output)]
    assert [json.loads(each) for each in said(text, "name")] == ["model", *names]
    assert said(text, "max_batch_size") == ["0"] and "dynamic_batching" not in text
    assert 'backend: "onnxruntime"' in text and 'label_filename: "labels.txt"' in text


def test_its_file_is_an_exported_model_like_any_other(repository):
    detector = load_exported(repository / "model/1/model.onnx")
    logits, boxes = detector.session.run(np.zeros((2, 3, 64, 96), dtype=np.float32))
    assert logits.shape == (2, 20, 3) and boxes.shape == (2, 20, 4)


def test_a_free_batch_is_made_by_the_server_and_any_name_is_escaped():
    names = ('say "a"', "naïve\n", "猫")
    metadata = Metadata(names, None, 0.5, 100, {"size": 64}, None, None)
    text = configuration("m", metadata, {"logits": [-1, 20, 3], "pred_boxes": [-1, 20, 4]})
    assert said(text, "max_batch_size") == ["16"] and "dynamic_batching" in text
    assert [json.loads(each) for each in said(text, "dims")] == [[3, -1, -1], [20, 3], [20, 4]]
    assert text.isascii()
    written = re.search(r'string_value: "(.*)" \}', text)[1]
    # Protobuf's text format reads escapes as C does.
    read = written.encode().decode("unicode_escape").encode("latin-1").decode()
    assert Metadata.from_json(read, "config.pbtxt").class_names == names


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(FocusDetrError, match="holds files"):
        export("blood-cells", tmp_path, "triton")
