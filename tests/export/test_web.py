"""An exported page computes in the browser what the package computes in Python."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from focus_detr import FocusDetrForObjectDetection, FocusDetrImageProcessor
from focus_detr.errors import FocusDetrError
from focus_detr.export import export, web
from focus_detr.export.metadata import Metadata, SteppedImageProcessor
from focus_detr.export.web import OWN, runtime
from focus_detr.inference import Predictor
from focus_detr.inference.looking import places_looked_at
from focus_detr.pictures.heatmap import foreground_scores, stretched
from focus_detr.structures.masks import Mask
from focus_detr.structures.pixel_masks import PixelMasks
from focus_detr.zoo.resolve import resolve_model
from helpers.browser import browser  # noqa: F401
from helpers.fake_service import fake_service
from helpers.page import FOUND, expect_boxes, expect_figure
from helpers.small_models import SHALLOW, small_model

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SMEARS = sorted(Path(__file__).parents[2].glob("examples/blood-cells/*.jpg"))
SIZE = (320, 427)  # as the model sees the example pictures


@pytest.fixture(scope="module")
def modules(browser: Any) -> Iterator[Any]:  # noqa: F811
    """A tab that can import the engine's modules."""
    with fake_service(OWN) as service, browser.new_context() as context:
        tab = context.new_page()
        tab.goto(f"{service.address}found.js")  # any document of that origin
        yield tab


def run(tab: Any, module: str, body: str, *values: Any) -> Any:
    """What `body` returns, in which `m` is a module and `v` the values.

    Arrays travel as text, since lists take seconds: `bytes(v[0])` reads one, `text(...)` makes one.
    """
    script = f"""async (v) => {{
        const bytes = (text) => Uint8ClampedArray.from(atob(text), (each) => each.charCodeAt(0));
        const text = ({{ buffer }}) =>
            btoa(Array.from(new Uint8Array(buffer), (each) => String.fromCharCode(each)).join(""));
        const m = await import('/{module}');
        {body}
    }}"""
    return tab.evaluate(script, [text(each) if isinstance(each, np.ndarray) else each for each in values])


def text(pixels: np.ndarray) -> str:
    return base64.b64encode(pixels.tobytes()).decode()


def array(text: str, dtype: type[np.generic]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


@pytest.mark.parametrize(
    "size",
    # In the last four rows are resized before columns, if barely in two of them.
    [(320, 197), (96, 59), (64, 96), (37, 200), (180, 83), (640, 37), (201, 122), (181, 84), (180, 82)],
)
def test_pictures_are_resized_to_the_pixel_of_pillow(modules: Any, size: tuple[int, int]) -> None:
    width, height = 200, 123
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    rgba = np.dstack([pixels, np.full((height, width), 255, np.uint8)])
    body = "return text(m.resized(bytes(v[0]), v[1], v[2], v[3], v[4]))"
    found = array(run(modules, "preprocessing.js", body, rgba, width, height, *size), np.uint8)
    atol = 0 if int(PIL.__version__.partition(".")[0]) >= 13 else 1  # by the rounding between
    bands = found.reshape(size[1], size[0], 4)[..., :3]
    np.testing.assert_allclose(bands.astype(int), expected.astype(int), rtol=0, atol=atol)


@pytest.mark.parametrize("step", [1, 32])
@pytest.mark.parametrize(
    "settings",
    [
        {"size": {"shortest_edge": 320, "longest_edge": 448}},
        {"size": {"shortest_edge": 224}, "do_normalize": False},
        {"size": {"shortest_edge": 300, "longest_edge": 500, "multiple": 32}, "do_rescale": False},
        {"size": {"height": 320, "width": 416}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]},
        {"do_resize": False},
    ],
)
def test_pictures_are_prepared_as_the_image_processor_does(
    modules: Any, settings: dict[str, Any], step: int
) -> None:
    processor = SteppedImageProcessor(step, **settings)
    names = ("do_resize", "size", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")
    metadata = {"image_size": None, "size_step": step}
    metadata["image_processor"] = {name: getattr(processor, name) for name in names}
    for width, height in [(90, 61), (61, 90), (113, 112), (200, 30)]:
        pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
        (expected,) = processor.preprocess(Image.fromarray(pixels), return_tensors="np")["pixel_values"]
        rgba = np.dstack([pixels, np.full((height, width), 255, np.uint8)])
        body = """const p = new m.Preprocessor(v[0]).run(bytes(v[1]), v[2], v[3]);
            return [p.width, p.height, text(p.values)]"""
        *size, values = run(modules, "preprocessing.js", body, metadata, rgba, width, height)
        assert size == [expected.shape[2], expected.shape[1]]
        found = array(values, np.float32).reshape(expected.shape)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("path", SMEARS, ids=lambda path: path.stem)
def test_a_browser_decodes_pictures_as_pillow_does(modules: Any, path: Path) -> None:
    body = """const blob = await (await fetch(v[0])).blob();
        const { data, width, height } = await m.pixelsOf(blob);
        return [width, height, text(data)]"""
    width, height, found = run(modules, "preprocessing.js", body, f"/examples/{path.name}")
    expected = np.asarray(Image.open(path).convert("RGBA")).astype(int)
    assert expected.shape[:2] == (height, width)
    difference = np.abs(array(found, np.uint8).reshape(expected.shape) - expected)
    assert difference.max() <= 2 and difference.mean() < 0.05


@pytest.mark.parametrize("scoring", ["sigmoid", "softmax"])
@pytest.mark.parametrize("nms_threshold", [None, 0.5])
def test_detections_are_those_of_the_image_processor(
    modules: Any, scoring: str, nms_threshold: float | None
) -> None:
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, (1, 60, 4)).astype(np.float32)
    boxes = random.uniform(0.2, 0.6, (1, 60, 4)).astype(np.float32)
    boxes[0, 0, 2] = 0  # an empty box
    processor = FocusDetrImageProcessor(scoring=scoring, nms_threshold=nms_threshold)
    (expected,) = processor.post_process_object_detection(
        {"logits": torch.from_numpy(logits), "pred_boxes": torch.from_numpy(boxes)},
        threshold=0.3,
        target_sizes=[(300, 500)],
        top_k=50,
    )
    metadata = {
        "image_processor": {"scoring": scoring, "nms_threshold": nms_threshold},
        "num_detections": 50,
        "class_names": ["a", "b", "c", "d"],
    }
    body = """const tensor = (values, dims) => ({ data: Float32Array.from(values), dims });
        return m.found(tensor(v[0], [1, 60, 4]), tensor(v[1], [1, 60, 4]),
            { width: 500, height: 300, threshold: 0.3, metadata: v[2] })"""
    found = run(modules, "found.js", body, logits.ravel().tolist(), boxes.ravel().tolist(), metadata)
    assert len(found) > 10
    assert [each["label"] for each in found] == expected["labels"].tolist()
    np.testing.assert_allclose([each["score"] for each in found], expected["scores"], atol=1e-6)
    np.testing.assert_allclose([each["box"] for each in found], expected["boxes"], atol=1e-3)


def test_masks_are_those_of_the_package(modules: Any) -> None:
    random = np.random.default_rng(2)
    size, numbers, rows, columns = (67, 95), 4, 17, 24
    boxes = [
        [0, 0, 95, 67], [10.2, 5.7, 60.9, 40.1], [70.3, 20, 95, 66.6], [30.4, 30.3, 30.6, 66],
        [94.7, 66.8, 95, 67], [5, 5, 50, 67], [20, 0, 23, 67],
    ]  # fmt: skip
    kernels = random.normal(0, 1, (1, len(boxes), numbers + 6)).astype(np.float32)
    kernels[0, -2:, numbers] = -100, 100  # nothing of a box, and all of one that reaches from top to bottom
    pixels = random.normal(0, 1, (1, numbers, rows, columns)).astype(np.float32)
    maps = PixelMasks(kernels, pixels, np.array([[rows, columns]]))
    expected = maps.masks(0, np.arange(len(boxes)), np.array(boxes), size)
    body = """const tensor = (values, dims) => ({ data: Float32Array.from(values), dims });
        const [kernels, pixels] = [tensor(...v[0]), tensor(...v[1])];
        const found = v[2].map((box, query) => ({ box, query }));
        m.masksOf(found, { masks_kernels: kernels, masks_pixels: pixels }, v[4], v[3]);
        return found.map(({ mask }) => mask)"""
    tensors = [(each.ravel().tolist(), list(each.shape)) for each in (kernels, pixels)]
    found = run(modules, "covering.js", body, *tensors, boxes, *size)
    assert found[-2:] == [mask.to_coco(size) for mask in expected[-2:]]
    pairs = zip(found, expected, strict=True)
    drawn = [(Mask.of_coco(one).decode(size), other.decode(size)) for one, other in pairs]
    assert sum(int((one != other).sum()) for one, other in drawn) <= 2
    assert sum(int(one.sum()) for one, _ in drawn[:3]) > 1000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model as a page; skips where its runtime cannot be had."""
    folder = tmp_path_factory.mktemp("web")
    try:
        runtime.copy_runtime(folder / "runtime")
    except FocusDetrError as error:
        pytest.skip(str(error))
    return export("blood-cells", folder / "site", "web", image_size=SIZE, examples=SMEARS, page_budgets=[0.1])


def served(folder: Path) -> ThreadingHTTPServer:
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


def test_a_page_begins_with_and_without_other_budgets(
    browser: Any,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graphs = [{"budget": None, "share": 0.3, "file": "model.onnx", "kept": 0.3}]
    told = {"insights": [], "strides": None, "graphs": graphs, "weights": None, "size_megabytes": 1}
    monkeypatch.setattr(web, "_write_graphs", lambda *_: told)
    monkeypatch.setattr(web, "copy_runtime", lambda _: None)
    metadata = Metadata(("cell",), None, 0.3, 8, {}, None, 1)
    web.write(None, tmp_path / "site", metadata, name="small")  # type: ignore[arg-type]
    server = served(tmp_path / "site")
    address = f"http://127.0.0.1:{server.server_port}/"
    with browser.new_context() as context:
        tab = context.new_page()
        tab.goto(address)
        tab.wait_for_selector(".example")
        assert tab.locator(".pane-budget[hidden]").count() == tab.locator("#compare[hidden]").count() == 1
        assert tab.input_value("#threshold") == "0.3"

    described = json.loads((tmp_path / "site" / "model.json").read_text())
    described["graphs"].append({"budget": 0.1, "share": 0.1, "file": "model-0.1.onnx", "kept": 0.1})
    (tmp_path / "site" / "model.json").write_text(json.dumps(described))
    # Another context: to HTTP, a file changed within one second is the same, and the first one holds it.
    with browser.new_context() as context:
        tab = context.new_page()
        tab.goto(address)
        tab.wait_for_selector(".example")
        slider = tab.locator(".pane-budget:not([hidden]) input")
        assert (slider.get_attribute("max"), slider.evaluate("(each) => each.value")) == ("1", "1")
    server.shutdown()


@pytest.mark.slow
def test_the_page_finds_what_python_finds(browser: Any, site: Path) -> None:  # noqa: F811
    """The model itself, in torch: boxes to 0.05 pixels of 640 x 480, scores to 0.001, for a token at the edge
    of those selected may be another."""
    predictor = Predictor.from_pretrained("blood-cells", device="cpu")
    server = served(site)
    with browser.new_context(accept_downloads=True) as context:
        tab = context.new_page()
        faults: list[str] = []
        hosts: set[str] = set()
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        context.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        tab.goto(f"http://127.0.0.1:{server.server_port}/")
        for number, path in enumerate(SMEARS):
            tab.click(f".example >> nth={number}")
            tab.wait_for_function(
                "(title) => document.title.startsWith(title) && document.querySelector('.box')"
                " && !document.querySelector('[aria-busy]')",
                arg=path.stem,
                timeout=120_000,
            )
            with tab.expect_download() as download:
                tab.click('[data-save="json"]')
            found = json.loads(Path(download.value.path()).read_text())["objects"]
            (expected,) = predictor.predict(path)
            assert len(found) == len(expected) > 3
            assert [each["label"] for each in found] == expected.labels.tolist()
            np.testing.assert_allclose([each["score"] for each in found], expected.scores, atol=1e-3)
            np.testing.assert_allclose([each["box_xyxy"] for each in found], expected.boxes_xyxy, atol=0.05)
        assert "Pictures stay in this browser" in tab.text_content("#where")
        assert tab.inner_text('[data-figure="kept"]') == "30 %"
        check_other_shapes(tab, Predictor.from_pretrained(site / "model.onnx"))
        check_budgets(tab, Predictor.from_pretrained(site / "model-0.1.onnx"))
    server.shutdown()
    assert hosts == {f"127.0.0.1:{server.server_port}"} and not faults


def check_other_shapes(tab: Any, predictor: Predictor) -> None:
    """Pictures that the fixed size squeezes: the page finds in them what the file's model finds in Python."""
    script = """async (data) => {
        const blob = new Blob([Uint8Array.from(atob(data), (each) => each.charCodeAt(0))]);
        return (await import("./engine.js")).detect({ blob, name: "a.png" }, { threshold: 0.3 })
    }"""
    for box in [(0, 0, 200, 480), (0, 100, 640, 240)]:
        stream = io.BytesIO()
        picture = Image.open(SMEARS[0]).crop(box)
        picture.save(stream, "PNG")
        found = tab.evaluate(script, base64.b64encode(stream.getvalue()).decode())["detections"]
        (expected,) = predictor.predict(picture, threshold=0.3)
        assert [each["label"] for each in found] == expected.labels.tolist() != []
        np.testing.assert_allclose([each["score"] for each in found], expected.scores, atol=1e-3)
        np.testing.assert_allclose([each["box"] for each in found], expected.boxes_xyxy, atol=0.05)


def check_budgets(tab: Any, predictor: Predictor) -> None:
    """Of the last example, at the one budget that the page offers, and back at the model's own."""
    (expected,) = predictor.predict(SMEARS[-1])
    assert len(expected) > 3
    tab.focus(".pane-budget input")
    tab.keyboard.press("ArrowLeft")
    expect_figure(tab, "kept", "10 %")
    expect_boxes(tab, len(expected))
    assert tab.locator(FOUND).first.get_attribute("aria-label").startswith(expected.class_names[0])
    tab.keyboard.press("ArrowRight")
    expect_figure(tab, "kept", "30 %")


@pytest.mark.slow
def test_graphs_of_several_budgets_share_their_weights(site: Path) -> None:
    graphs = sorted(site.glob("model*.onnx"))
    assert [graph.name for graph in graphs] == ["model-0.1.onnx", "model.onnx"]
    assert (site / "weights.bin").stat().st_size > 20 * sum(graph.stat().st_size for graph in graphs)
    model = FocusDetrForObjectDetection.from_pretrained(resolve_model("blood-cells"))
    once = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert (site / "weights.bin").stat().st_size == pytest.approx(once, rel=0.15)


@pytest.mark.slow
def test_the_page_says_of_the_model_what_python_says(browser: Any, site: Path) -> None:  # noqa: F811
    path = SMEARS[0]
    server = served(site)
    with browser.new_context() as context:
        tab = context.new_page()
        tab.goto(f"http://127.0.0.1:{server.server_port}/")
        answer = tab.evaluate(
            """async () => {
                const [engine, pictures] = [await import("./engine.js"), await import("./pictures.js")];
                const [model] = await engine.models();
                const picture = await pictures.pictureAt((await engine.examples())[0]);
                const options = { threshold: 0.3, heatmap: true, where: true };
                return { model, ...(await engine.detect(picture, options)) };
            }"""
        )
    server.shutdown()
    assert answer["model"] == "blood-cells"
    folder = resolve_model("blood-cells")
    processor = FocusDetrImageProcessor.from_pretrained(folder, size={"height": SIZE[0], "width": SIZE[1]})
    model = FocusDetrForObjectDetection.from_pretrained(folder).float().eval()
    with torch.no_grad():
        inputs = processor.preprocess(Image.open(path))
        outputs = model(inputs["pixel_values"], with_samples=True)

    (best, *_) = answer["detections"]
    query = int(outputs.logits[0].max(-1).values.argmax())
    expected = places_looked_at(outputs, 0, [query], (480, 640))[0]
    expected = expected[np.argsort(-expected[:, 2])]
    assert sum(weight for *_, weight in best["where"]) == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(np.array(best["where"])[:9], expected[:9], rtol=1e-3, atol=0.05)

    heat = Image.open(io.BytesIO(base64.b64decode(answer["heatmap"].partition(",")[2])))
    scores = np.max([stretched(level, heat.size) for level in foreground_scores(outputs)], axis=0)
    found = np.asarray(heat.convert("L")) / 255
    np.testing.assert_allclose(found, scores / scores.max(), atol=0.02)


@pytest.mark.slow
def test_the_page_of_a_model_with_masks_draws_those_of_python(
    browser: Any,  # noqa: F811
    tmp_path: Path,
) -> None:
    try:
        runtime.copy_runtime(tmp_path / "runtime")
    except FocusDetrError as error:
        pytest.skip(str(error))
    model = small_model(**SHALLOW, heads=["masks"], num_detections=5)
    processor = FocusDetrImageProcessor(size={"height": 64, "width": 96})
    options: dict[str, Any] = {"image_size": (64, 96), "processor": processor, "examples": SMEARS[:1]}
    folder = export(model, tmp_path / "site", "web", **options)
    (expected,) = Predictor.from_pretrained(folder / "model.onnx").predict(SMEARS[0], threshold=0.001)
    server = served(folder)
    with browser.new_context() as context:
        tab = context.new_page()
        tab.goto(f"http://127.0.0.1:{server.server_port}/")
        answer = tab.evaluate(
            """async () => {
                const [engine, pictures] = [await import("./engine.js"), await import("./pictures.js")];
                const picture = await pictures.pictureAt((await engine.examples())[0]);
                return engine.detect(picture, { threshold: 0.001, where: true });
            }"""
        )
    server.shutdown()
    found = [Mask.of_coco(each["mask"]).decode((480, 640)) for each in answer["detections"]]
    drawn = [mask.decode((480, 640)) for mask in expected.masks]
    assert len(found) == len(drawn) == 5 and sum(int(each.sum()) for each in drawn) > 1000
    differing = sum(int((one != other).sum()) for one, other in zip(found, drawn, strict=True))
    assert differing <= 0.005 * sum(int(each.sum()) for each in drawn)


@pytest.mark.slow
def test_a_file_that_is_missing_is_said(browser: Any, site: Path, tmp_path: Path) -> None:  # noqa: F811
    shutil.copytree(site, tmp_path / "site")
    (tmp_path / "site" / "model.onnx").unlink()
    server = served(tmp_path / "site")
    with browser.new_context() as context:
        tab = context.new_page()
        tab.goto(f"http://127.0.0.1:{server.server_port}/")
        tab.click(".example >> nth=0")
        tab.wait_for_selector(".pane-notice .notice")
        shutil.copy(site / "model.onnx", tmp_path / "site")
        tab.click("text=Try again")
        tab.wait_for_selector(".box", timeout=120_000)
    server.shutdown()


@pytest.mark.slow
def test_the_folder_holds_licences_and_a_policy(site: Path) -> None:
    assert "Microsoft" in (site / "runtime" / "LICENSE").read_text()
    assert (site / "runtime" / "ThirdPartyNotices.txt").stat().st_size > 10_000
    assert "Content-Security-Policy" in (site / "index.html").read_text()
    assert not [file for file in site.rglob("*") if file.suffix == ".mjs"]
    with pytest.raises(FocusDetrError, match="holds files"):
        export("blood-cells", site, "web", image_size=SIZE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "web", "batch_size": 2}, "one by one"),
        ({"format": "web", "examples": ["notes.txt"]}, "no picture that every browser shows"),
        ({"format": "web", "examples": ["missing.png"]}, "missing.png: no such file"),
        ({"format": "web", "page_budgets": [0.5, 2]}, "budget=2"),
        ({"format": "onnx", "output": "model.onnx", "examples": ["a.png"]}, "only of format 'web'"),
        ({"format": "onnx", "output": "model.onnx", "page_budgets": [0.5]}, "only of format 'web'"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    output = tmp_path / options.pop("output", "site")
    with pytest.raises(FocusDetrError, match=message):
        export("blood-cells", output, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A small archive in place of npm's, at an address where nothing is, and an empty cache."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as files:
        for name in [*runtime.FILES, "package/other.js"]:
            entry = tarfile.TarInfo(name)
            entry.size = len(name)
            files.addfile(entry, io.BytesIO(name.encode()))
    content = stream.getvalue()
    release = runtime.Release("tiny-1", "http://127.0.0.1:9/tiny-1.tgz", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(runtime, "RELEASE", release)
    monkeypatch.setenv("FOCUS_DETR_CACHE", str(tmp_path / "cache"))
    return content


def test_a_runtime_that_cannot_be_downloaded_is_put_there_by_hand(archive: bytes, tmp_path: Path) -> None:
    with pytest.raises(FocusDetrError, match=r"by hand|By hand: put tiny-1.tgz \(sha256 ") as caught:
        runtime.copy_runtime(tmp_path / "runtime")
    by_hand = tmp_path / "cache" / "by-hand" / "tiny-1"
    assert str(by_hand) in str(caught.value)
    (by_hand / "tiny-1.tgz").write_bytes(archive[:-5])
    with pytest.raises(FocusDetrError, match="damaged, or another file"):
        runtime.copy_runtime(tmp_path / "runtime")
    (by_hand / "tiny-1.tgz").write_bytes(archive)
    runtime.copy_runtime(tmp_path / "runtime")
    assert {file.name for file in (tmp_path / "runtime").iterdir()} == {
        *runtime.FILES.values(),
        "LICENSE",
        "ThirdPartyNotices.txt",
    }


def test_a_runtime_is_downloaded_once(
    archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "npm").mkdir()
    (tmp_path / "npm" / "tiny-1.tgz").write_bytes(archive)
    server = served(tmp_path / "npm")
    address = f"http://127.0.0.1:{server.server_port}/tiny-1.tgz"
    release = runtime.Release("tiny-1", address, runtime.RELEASE.sha256)
    monkeypatch.setattr(runtime, "RELEASE", release)
    runtime.copy_runtime(tmp_path / "one")
    server.shutdown()
    server.server_close()
    runtime.copy_runtime(tmp_path / "two")
    assert (tmp_path / "two" / "ort.js").read_text() == "package/dist/ort.wasm.min.mjs"
