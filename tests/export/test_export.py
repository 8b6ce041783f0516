"""An exported file is a model like any other: the same detections, in any batch, and it knows its classes."""

import importlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from focus_detr import FocusDetr, FocusDetrForObjectDetection, FocusDetrImageProcessor
from focus_detr.cli.app import app
from focus_detr.errors import FocusDetrError
from focus_detr.evaluation import evaluate
from focus_detr.export import export, load_exported
from focus_detr.export.metadata import KEY, FreeSizeError, Metadata
from focus_detr.inference import Predictor
from focus_detr.losses.distillation import TaughtObjects
from focus_detr.training.teachers import TeacherOptions
from focus_detr.training.teachers.once import OnceTeacher
from focus_detr.zoo.resolve import resolve_model
from helpers.pictures import noise
from helpers.small_models import SHALLOW, small_model

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

SMEARS = sorted(Path(__file__).parents[2].glob("examples/blood-cells/*.jpg"))
SIZE = (192, 256)
exporting = importlib.import_module("focus_detr.export.exporter")  # its package has a function of that name

FORMATS = {"onnx": "model.onnx", "openvino": "model.xml", "torch-export": "model.pt2"}


@pytest.fixture(
    scope="module",
    params=["onnx", *(pytest.param(each, marks=pytest.mark.slow) for each in ("openvino", "torch-export"))],
)
def exported(request, tmp_path_factory):
    """The bundled model for two images of one size at a time, in each format."""
    path = tmp_path_factory.mktemp(request.param) / FORMATS[request.param]
    return export("blood-cells", path, request.param, image_size=SIZE, batch_size=2)


@pytest.fixture(scope="module")
def eager():
    """The bundled model, on images of that size."""
    folder = resolve_model("blood-cells")
    processor = FocusDetrImageProcessor.from_pretrained(folder, size={"height": SIZE[0], "width": SIZE[1]})
    return Predictor(FocusDetrForObjectDetection.from_pretrained(folder).float(), processor)


def test_it_names_no_file_of_the_machine_it_was_written_on(exported):
    # Of each operator, exporters note the lines of code that it came from.
    parts = [exported.read_bytes()]
    if zipfile.is_zipfile(exported):
        with zipfile.ZipFile(exported) as archive:
            parts += map(archive.read, archive.namelist())
    assert not any(b".py" in part for part in parts)


def same(found, expected):
    assert found.labels.tolist() == expected.labels.tolist() and len(found.labels) > 3
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=0.2)  # pixels of 640 x 480


@pytest.mark.parametrize("batch_size", [1, 4])
def test_it_detects_what_the_model_detects(exported, eager, batch_size):
    predictor = Predictor.from_pretrained(exported)
    assert predictor.class_names == eager.class_names and predictor.threshold == eager.threshold
    found = predictor.predict([*SMEARS, *SMEARS[:1]], threshold=0.3, batch_size=batch_size)
    expected = eager.predict([*SMEARS, *SMEARS[:1]], threshold=0.3)
    for one, other in zip(found, expected, strict=True):
        same(one, other)


def test_it_teaches_what_it_finds(exported, eager):
    options = TeacherOptions(str(exported), least_score=0.3)
    picture = Image.open(SMEARS[0])
    logits, boxes = OnceTeacher(options, eager.class_names, "sigmoid").look(picture)
    outputs = eager.run([picture])
    expected = TaughtObjects.of_queries(outputs.logits, outputs.pred_boxes, False, 0.3, options.most)
    assert len(logits) == expected.counts[0] > 3
    np.testing.assert_allclose(np.sort(logits.max(1)), expected.logits[0].amax(1).sort().values, atol=0.01)
    np.testing.assert_allclose(boxes.sum(0), expected.boxes[0].sum(0), atol=0.01)


def test_the_facade_and_the_evaluation_take_it(exported, eager, tmp_path):
    model = FocusDetr(exported)
    (one,) = model.predict(SMEARS[0])
    assert one.counts() == next(eager.predict(SMEARS[0])).counts()
    data = labelled(tmp_path, eager)
    found, expected = (
        evaluate(exported, data, split="test", progress=False),
        evaluate(eager, data, progress=False),
    )
    assert found.metrics.summary["AP"] == pytest.approx(expected.metrics.summary["AP"], abs=0.002)
    assert expected.metrics.summary["AP"] > 0.5


def labelled(folder, predictor):
    """A data set whose objects are what the model finds, each a little moved."""
    images, annotations = [], []
    for i, found in enumerate(predictor.predict(SMEARS)):
        (folder / f"{i}.jpg").write_bytes(SMEARS[i].read_bytes())
        images.append({"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480})
        for (left, top, right, bottom), label in zip(
            found.boxes_xyxy.tolist(), found.labels.tolist(), strict=True
        ):
            box = [left, top, (right - left) * 0.9, (bottom - top) * 0.9]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i, "category_id": label + 1, "bbox": box}
                | {"area": box[2] * box[3], "iscrowd": 0}
            )
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(predictor.class_names)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "instances_test.json"
    path.write_text(json.dumps(content))
    return path


def test_what_cannot_be_asked_of_it(exported, tmp_path):
    for options in ({"dtype": "float16"}, {"deploy": True}):
        with pytest.raises(FocusDetrError, match="an exported model is in the form and precision"):
            Predictor.from_pretrained(exported, **options)
    with pytest.raises(FocusDetrError, match="the exported model takes 192x256"):
        load_exported(exported).infer(torch.zeros(1, 3, 64, 64))
    with pytest.raises(FocusDetrError, match="is exported already"):
        export(exported, tmp_path / "again.onnx")


@pytest.mark.slow
@pytest.mark.parametrize(("format", "budget"), [("onnx", 0.1), ("openvino", 1.0)])
@torch.no_grad()
def test_it_works_on_the_share_of_tokens_asked_for(format, budget, tmp_path):
    model = small_model(**SHALLOW)
    processor = FocusDetrImageProcessor(size={"shortest_edge": 64})
    pixels = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    path = tmp_path / FORMATS[format]
    export(model, path, format, processor=processor, image_size=(64, 96), budget=budget)
    logits, boxes = load_exported(path).infer(pixels)
    expected = model(pixels, budget=budget)
    torch.testing.assert_close(logits, expected.logits, atol=2e-3, rtol=0)
    torch.testing.assert_close(boxes, expected.pred_boxes, atol=2e-3, rtol=0)
    assert not torch.allclose(logits, model(pixels).logits, atol=0.05) and model.config.budget is None
    with pytest.raises(FocusDetrError, match="budget=7"):
        export(model, tmp_path / FORMATS[format], format, processor=processor, budget=7)


@pytest.mark.slow
def test_batch_and_size_may_stay_free(tmp_path):
    model = small_model(encoder_layers=1, cascade=[1.0], decoder_layers=1, dtype=torch.float32)
    processor = FocusDetrImageProcessor(size={"shortest_edge": 70})
    path = export(model, tmp_path / "free.onnx", processor=processor)
    exported = load_exported(path)
    assert exported.config.size_step == 1
    for shape in ((1, 65, 97), (3, 160, 96), (2, 251, 321)):
        pixels = torch.randn(shape[0], 3, *shape[1:], generator=torch.Generator().manual_seed(1))
        logits, boxes = exported.infer(pixels)
        with torch.no_grad():
            expected = model(pixels)
        torch.testing.assert_close(logits, expected.logits, atol=2e-3, rtol=0)
        torch.testing.assert_close(boxes, expected.pred_boxes, atol=2e-3, rtol=0)
    with pytest.raises(FocusDetrError, match="sides from 65 to 4096"):
        exported.infer(torch.zeros(1, 3, 64, 96))
    picture = noise(150, 101)  # seen at 104 x 70
    (alone,) = Predictor(model, processor, threshold=0.0).predict(picture)
    (found,) = Predictor.from_pretrained(path).predict(picture, threshold=0.0)
    np.testing.assert_array_equal(found.labels, alone.labels)
    np.testing.assert_allclose(found.boxes_xyxy, alone.boxes_xyxy, atol=0.5)


_ENDS = """
import gc, signal, subprocess, sys
from pathlib import Path
from focus_detr.export.openvino import Session

signal.signal(signal.SIGCHLD, lambda *_: None)  # as data loaders do
one, other = (Session(Path(sys.argv[1]), "cpu") for _ in range(2))
del one
gc.collect()
del other
gc.collect()
subprocess.run([sys.executable, "--version"], check=True)
"""


def test_models_of_openvino_may_end_in_any_order(tmp_path):
    # Each with a core of its own, the signal kills the process where the processor has AMX.
    import openvino
    from openvino import opset13

    pixels = opset13.parameter([1, 3, 64, 64], np.float32, name="pixel_values")
    graph = openvino.Model([opset13.matmul(pixels, np.ones((64, 64), np.float32), False, False)], [pixels])
    graph.set_rt_info(Metadata(("cat",), None, None, 10, {}, None, None).to_json(), [KEY])
    openvino.save_model(graph, tmp_path / "model.xml")
    subprocess.run([sys.executable, "-c", _ENDS, tmp_path / "model.xml"], check=True, timeout=120)


@pytest.mark.parametrize(
    ("size", "step"), [({"shortest_edge": 64}, 1), ({"shortest_edge": 64, "multiple": 32}, 32)]
)
def test_free_sizes_are_those_that_the_model_sees(tmp_path, monkeypatch, size, step):
    written = []
    monkeypatch.setattr(
        exporting, "_writer", lambda format: lambda model, path, metadata: written.append(metadata)
    )
    options = {"processor": FocusDetrImageProcessor(size=size)}
    export(small_model(dtype=torch.float32), tmp_path / "a.onnx", **options)
    export(small_model(dtype=torch.float32), tmp_path / "a.xml", "openvino", **options)
    assert [each.size_step for each in written] == [step, 32]
    for metadata in written:
        picture = Image.new("RGB", (230, 111))
        image = metadata.processor().preprocess(picture, return_tensors="pt")["pixel_values"]
        whole = FocusDetrImageProcessor(size=size).preprocess(picture, return_tensors="pt")["pixel_values"]
        assert metadata.size_step == 32 or image.shape[3] == whole.shape[3]
        assert all(side % metadata.size_step == 0 for side in image.shape[2:])


def test_where_not_every_size_can_be_traced_there_is_a_step(tmp_path, monkeypatch):
    tried = []

    def write(model, path, metadata):
        tried.append(metadata.size_step)
        if metadata.size_step == 1:
            raise FreeSizeError("cannot be exported with free image sizes")

    monkeypatch.setattr(exporting, "_writer", lambda format: write)
    processor = FocusDetrImageProcessor(size={"shortest_edge": 64})
    export(small_model(dtype=torch.float32), tmp_path / "a.onnx", processor=processor)
    assert tried == [1, 32]


def test_files_from_before_have_sizes_in_multiples():
    text = Metadata(("cat",), None, None, 10, {"do_resize": False}, None, None).to_json()
    values = json.loads(text)
    del values["size_step"], values["budgets"]
    assert Metadata.from_json(json.dumps(values), Path("a.onnx")).size_step == 32


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_half_precision_is_near_and_half_the_size(format, tmp_path, eager):
    # Scores, selection and coordinates stay float32: the same tokens are kept and the same objects found.
    name = FORMATS[format]
    path = export("blood-cells", tmp_path / name, format, image_size=SIZE, batch_size=1, precision="fp16")
    weights = max(file.stat().st_size for file in tmp_path.iterdir())
    assert weights < 0.75 * 4 * sum(p.numel() for p in eager.model.parameters())
    found = Predictor.from_pretrained(path).predict(SMEARS, threshold=0.3)
    for one, other in zip(found, eager.predict(SMEARS, threshold=0.25), strict=True):
        assert len(one.scores) > 3
        overlap = box_iou(one.boxes_xyxy, other.boxes_xyxy) * (one.labels[:, None] == other.labels[None])
        assert (overlap.max(1) > 0.9).mean() > 0.9


@pytest.mark.slow
def test_int8_keeps_its_tokens_and_finds_the_objects(tmp_path, eager):
    pytest.importorskip("nncf")
    from focus_detr.export.openvino import shared_core

    with pytest.raises(FocusDetrError, match="4 pictures could be read; at least 10"):
        export(
            "blood-cells", tmp_path / "few.xml", "openvino", image_size=SIZE, batch_size=1,
            precision="int8", calibration=SMEARS,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())
    path = export(
        "blood-cells", tmp_path / "model.xml", "openvino", image_size=SIZE, batch_size=1,
        precision="int8", calibration=SMEARS * 3,
    )  # fmt: skip
    weights = path.with_suffix(".bin").stat().st_size
    assert weights < 0.5 * 4 * sum(p.numel() for p in eager.model.parameters())
    graph = shared_core().read_model(path)
    kinds = [node.get_type_name() for node in graph.get_ordered_ops()]
    assert kinds.count("FakeQuantize") > 50
    sort = next(node for node in graph.get_ordered_ops() if node.get_type_name() == "TopK")
    graph.add_outputs(sort.output(1))
    compiled = shared_core().compile_model(graph, "CPU")
    for smear in SMEARS:
        image = eager.processor(images=[Image.open(smear)], return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            expected = eager.model(image).plan.indices[0].tolist()
        kept = compiled(image.numpy())[compiled.outputs[-1]][0].tolist()
        assert len(kept) == len(expected) and len(set(kept) & set(expected)) > 0.95 * len(kept)
    assert_finds_the_cells(path, eager)


@pytest.mark.slow
def test_int8_of_onnx_computes_what_the_model_does_but_for_what_decides(tmp_path, eager):
    pytest.importorskip("nncf")
    import onnx

    path = export(
        "blood-cells", tmp_path / "model.onnx", image_size=SIZE, batch_size=1,
        precision="int8", calibration=SMEARS * 3,
    )  # fmt: skip
    nodes = onnx.load(path).graph.node
    rounded = {output for node in nodes if node.op_type == "DequantizeLinear" for output in node.output}
    products = [node for node in nodes if node.op_type in ("Conv", "MatMul", "Gemm")]
    in_floats = [node for node in products if not rounded & set(node.input)]
    assert len(products) - len(in_floats) > 50 and in_floats
    assert_finds_the_cells(path, eager)


def assert_finds_the_cells(path, eager):
    found = Predictor.from_pretrained(path).predict(SMEARS, threshold=0.4)
    for one, other in zip(found, eager.predict(SMEARS, threshold=0.2), strict=True):
        assert len(one.scores) > 3
        overlap = box_iou(one.boxes_xyxy, other.boxes_xyxy) * (one.labels[:, None] == other.labels[None])
        assert (overlap.max(1) > 0.7).mean() > 0.9


def box_iou(one, other):
    low, high = np.maximum(one[:, None, :2], other[:, :2]), np.minimum(one[:, None, 2:], other[:, 2:])
    shared = (high - low).clip(min=0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (one, other)]
    return shared / (areas[0][:, None] + areas[1] - shared)


@pytest.mark.slow
def test_tensorrt_gets_a_script_to_build_its_engine(tmp_path):
    model = small_model(dtype=torch.float32)
    processor = FocusDetrImageProcessor(size={"height": 64, "width": 96})
    path = export(
        model, tmp_path / "m.onnx", "tensorrt", image_size=(64, 96), batch_size=1, processor=processor
    )
    assert f"--onnx={path.name}" in (tmp_path / "m.build-engine.sh").read_text()


def test_a_file_has_the_decoder_layers_asked_for(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(exporting, "_writer", lambda format: lambda model, *_, **__: written.append(model))
    model = small_model(dtype=torch.float32)
    export(model, tmp_path / "m.onnx", decoder_layers=1, processor=FocusDetrImageProcessor())
    pixels = torch.rand(1, 3, 96, 128)
    with torch.no_grad():
        found, wanted = written[0](pixels), model(pixels, decoder_layers=1)
    torch.testing.assert_close(found.logits, wanted.logits)
    assert model.config.used_decoder_layers is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "onyx"}, "format='onyx': not known; use one of onnx, openvino"),
        ({"format": "openvino"}, "ends in .xml"),
        ({"image_size": (16, 64)}, "32 or more"),
        ({"image_size": 64.0}, "image_size"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"precision": "int4"}, "precision='int4': not known; use one of fp32, fp16, bf16, int8"),
        ({"precision": "int8"}, "go together"),
        ({"calibration": SMEARS}, "go together"),
        (
            {"format": "tensorrt", "image_size": SIZE, "precision": "int8", "calibration": SMEARS},
            "only of format 'onnx' and 'openvino', not 'tensorrt'",
        ),
        ({"max_drop": 0.005}, "max_drop=AP and data=DATA go together"),
        ({"data": "somewhere"}, "max_drop=AP and data=DATA go together"),
        ({"max_drop": 0.005, "data": "somewhere"}, "max_drop: only of precision 'int8', not 'fp32'"),
        ({"format": "tensorrt"}, "TensorRT needs it fixed"),
        ({"decoder_layers": 9}, "decoder_layers=9: .*from 1 to"),
    ],
)
def test_unusable_options_are_refused(tmp_path, options, message):
    with pytest.raises(FocusDetrError, match=message):
        export("blood-cells", tmp_path / "m.onnx", **options)
    assert not list(tmp_path.iterdir())


def test_files_that_are_not_ours(tmp_path):
    with pytest.raises(FocusDetrError, match="no such file"):
        load_exported(tmp_path / "none.onnx")
    path = tmp_path / "text.onnx"
    path.write_text("not a graph")
    with pytest.raises(FocusDetrError, match="text.onnx: cannot be read as an ONNX file"):
        load_exported(path)
    with pytest.raises(FocusDetrError, match="an exported model ends in"):
        load_exported(tmp_path / "model.tflite")


@pytest.mark.slow
def test_command_line(tmp_path):
    from typer.testing import CliRunner

    path = tmp_path / "cells.onnx"
    result = CliRunner().invoke(
        app, ["export", "blood-cells", "--output", str(path), "--size", "96x128", "--batch", "1", "--json"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["file"] == str(path) and path.is_file()
    result = CliRunner().invoke(app, ["predict", str(path), str(SMEARS[0]), "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)[0]["objects"]
    with pytest.raises(FocusDetrError, match="must be HEIGHTxWIDTH"):
        CliRunner().invoke(app, ["export", "blood-cells", "--size", "96"], catch_exceptions=False)
