"""benchmark(): rows, budgets, sizes, AP, and what is refused."""

import csv
import json

import pytest
from PIL import Image

from focus_detr import machine
from focus_detr.benchmarking import benchmark, run
from focus_detr.benchmarking.environment import describe_environment, flat, limited_threads
from focus_detr.benchmarking.memory import PeakMemory
from focus_detr.benchmarking.report import BenchmarkReport, Row
from focus_detr.errors import FocusDetrError
from focus_detr.inference.costs import CostCurve
from focus_detr.machine import usable_cores

QUICK = {"warmup": 0, "runs": 1, "memory": False}


@pytest.fixture
def data(tmp_path):
    """A COCO data set: in split test, three images with one cell each."""
    folder = tmp_path / "data" / "test"
    folder.mkdir(parents=True)
    images = [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in (1, 2, 3)]
    for image in images:
        Image.new("RGB", (64, 48), "white").save(folder / image["file_name"])
    annotations = [
        {"id": i, "image_id": i, "category_id": 7, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}
        for i in (1, 2, 3)
    ]
    categories = [{"id": 7, "name": "cell"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "_annotations.coco.json").write_text(json.dumps(content))
    return tmp_path / "data"


@pytest.fixture(scope="module")
def report(tiny_model):
    return benchmark(
        [str(tiny_model)], sizes=[(64, 64), (64, 96)], keep_ratios=[0.5, 1.0], batch_size=2, **QUICK
    )


def test_every_model_budget_and_size_has_its_row(report, tiny_model):
    assert [(row.keep_ratio, row.size) for row in report.rows] == [
        (0.5, "64x64"), (0.5, "64x96"), (1.0, "64x64"), (1.0, "64x96"),
    ]  # fmt: skip
    assert {row.model for row in report.rows} == {str(tiny_model)}


def test_the_budget_reaches_the_model(report):
    half, _, full, _ = report.rows
    assert half.kept < full.kept and half.encoder_gmacs < full.encoder_gmacs
    assert full.kept == pytest.approx(0.5, abs=0.01)  # its cascade is (0.5,)


def test_a_budget_is_the_share_that_layers_work_on(tiny_model):
    rows = benchmark(
        [str(tiny_model)], sizes=[(64, 96)], budgets=[0.2, 1.0], decoder_layers=[1], **QUICK
    ).rows
    assert [row.budget for row in rows] == [0.2, 1.0]
    assert [row.decoder_layers for row in rows] == [1, 1]
    assert [row.kept for row in rows] == pytest.approx([0.2, 1.0], abs=0.01)
    assert rows[0].encoder_gmacs < rows[1].encoder_gmacs


def test_times_and_rates_agree(report):
    first = report.rows[0]
    for row in report.rows:
        assert row.best_ms <= row.median_ms <= row.p95_ms
        assert row.images_per_second == pytest.approx(2e3 / row.median_ms, rel=1e-3)
        assert row.times_faster == pytest.approx(first.median_ms / row.median_ms, rel=1e-2)


def test_the_usual_size_is_what_the_image_processor_makes(tiny_model):
    (row,) = benchmark([str(tiny_model)], **QUICK).rows
    assert row.size == "64x85" and row.AP is None and row.memory_mib is None


def test_accuracy_is_of_the_images_asked_for_at_the_size_asked_for(tiny_model, data, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "focus_detr.evaluation.evaluate",
        lambda predictor, dataset, **_: seen.append((predictor, dataset)) or _Fixed,
    )
    sizes = [(64, 64), (96, 64)]
    rows = benchmark([str(tiny_model)], sizes=sizes, data=data, limit=2, **QUICK).rows
    assert [row.AP for row in rows] == [0.25, 0.25]
    assert [len(dataset) for _, dataset in seen] == [2, 2]
    assert seen[-1][0].processor.size == {"height": 96, "width": 64}


class _Fixed:
    class metrics:
        summary = {"AP": 0.25, "AP50": 0.5}


def test_accuracy_is_measured(tiny_model, data):
    (row,) = benchmark([str(tiny_model)], data=data, **QUICK).rows
    assert 0 <= row.AP <= row.AP50 <= 1


def test_memory_is_of_this_row(tiny_model, monkeypatch):
    asked = []

    def measured(prepare, request, size, batch, threads):
        asked.append((prepare.__name__, request.name, request.keep_ratio, size, batch, threads))
        return PeakMemory(100.0, 150.0)

    monkeypatch.setattr(run, "peak_memory", measured)
    options = {**QUICK, "memory": True}
    (row,) = benchmark([str(tiny_model)], sizes=[(64, 64)], keep_ratios=[0.2], threads=1, **options).rows
    assert asked == [("prepare", str(tiny_model), 0.2, (64, 64), 1, 1)]
    assert (row.memory_mib, row.peak_mib, row.device_memory_mib) == (50.0, 150.0, None)


def test_models_take_turns(tiny_model, monkeypatch):
    done = []

    class Noted:
        def __init__(self, candidate):
            self.candidate = candidate

        def __call__(self):
            done.append(self.candidate.request.keep_ratio)

    monkeypatch.setattr(run.Candidate, "work", lambda candidate, size, batch: Noted(candidate))
    options = {**QUICK, "warmup": 1, "runs": 2}
    benchmark([str(tiny_model)], sizes=[(64, 64)], keep_ratios=[0.3, 0.6], **options)
    assert done == [0.3, 0.6] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": [(16, 64)]}, "32 pixels"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"threads": 0}, "threads=0"),
        ({"threads": 10**6}, "core"),
        ({"keep_ratios": [0.0]}, "keep_ratio=0.0"),
        ({"keep_ratios": [1.5]}, "keep_ratio=1.5"),
        ({"budgets": [0.01]}, "budget=0.01"),
        ({"decoder_layers": [7]}, "decoder_layers=7"),
        ({"budgets": [0.5], "keep_ratios": [0.5]}, "give one of them"),
        ({"limit": 3}, "none is given"),
        ({"dtype": "int8"}, "int8"),
    ],
)
def test_wrong_options_are_named(tiny_model, options, message):
    with pytest.raises(FocusDetrError, match=message):
        benchmark([str(tiny_model)], **{**QUICK, **options})


def test_an_unknown_model_and_no_model_are_refused():
    with pytest.raises(FocusDetrError, match="blod-cells"):
        benchmark(["blod-cells"], **QUICK)
    with pytest.raises(FocusDetrError, match="focus-detr-r49"):
        benchmark(["preset:focus-detr-r49"], **QUICK)
    with pytest.raises(FocusDetrError, match="no model"):
        benchmark([], **QUICK)


class _Costs:
    """Seconds equal budgets."""

    def __init__(self, predictor):
        pass

    def of(self, size):
        return CostCurve((0.05, 1.0), (0.05, 1.0))


@pytest.mark.slow
def test_a_deadline_gives_the_largest_budget_that_meets_it(tiny_model, monkeypatch):
    monkeypatch.setattr(run.Costs, "of_model", _Costs)
    options = {**QUICK, "sizes": [(64, 64)]}
    (row,) = benchmark([str(tiny_model)], deadline="123ms", **options).rows
    assert row.budget == 0.12
    # What the model was trained for is enough, unless another is said: half of the tokens, half of the time.
    assert benchmark([str(tiny_model)], deadline=0.9, **options).rows[0].budget == pytest.approx(
        0.26, abs=0.02
    )
    assert benchmark([str(tiny_model)], deadline=0.9, budgets=[0.8], **options).rows[0].budget == 0.8
    with pytest.raises(FocusDetrError, match="smallest latency measured.* 50 ms"):
        benchmark([str(tiny_model)], deadline="49ms", **options)
    with pytest.raises(FocusDetrError, match="at most one budget"):
        benchmark([str(tiny_model)], deadline="1s", budgets=[0.1, 0.2], **options)
    with pytest.raises(FocusDetrError, match="no model here takes a budget"):
        dense = "focus-detr-lite0,token_policy=dense"
        benchmark([dense], deadline="1s", **options)


def test_a_budget_without_selection_is_refused(monkeypatch):
    monkeypatch.setattr(run, "load_candidate", lambda request: _Dense)
    with pytest.raises(FocusDetrError, match="selects tokens"):
        benchmark(["some.onnx"], keep_ratios=[0.5], **QUICK)
    with pytest.raises(FocusDetrError, match=r"budgets 0\.5: no model here"):
        benchmark(["some.onnx"], budgets=[0.5], **QUICK)


class _Dense:
    config = None


def test_random_weights_have_no_accuracy(data, monkeypatch):
    monkeypatch.setattr(run, "load_candidate", lambda request: _Untrained)
    with pytest.raises(FocusDetrError, match="random weights"):
        benchmark(["focus-detr-lite0"], data=data, **QUICK)


class _Untrained(_Dense):
    trained = False

    class request:
        name = "focus-detr-lite0"


def test_a_preset_has_random_weights_and_every_spelling_is_the_same():
    from focus_detr.benchmarking.candidates import Request, load_candidate

    plain, spelled = (
        load_candidate(Request("focus-detr-lite0")),
        load_candidate(Request("preset:focus-detr-lite0")),
    )
    assert not plain.trained and plain.config.to_dict() == spelled.config.to_dict()


def test_fields_of_a_preset_are_said_behind_it_and_its_pixels_are_its_backbone_s():
    from focus_detr.benchmarking.candidates import Request, load_candidate

    said = load_candidate(Request("preset:dino-lite0,token_policy=sparse,keep_ratio=0.2"))
    assert not said.trained and (said.config.token_policy, said.config.keep_ratio) == ("sparse", 0.2)
    assert said.predictor.processor.image_mean == [127 / 255] * 3
    with pytest.raises(FocusDetrError, match="dino-lite0,sparse: must be key=value"):
        load_candidate(Request("dino-lite0,sparse"))


def test_a_deployed_model_answers_like_its_own(tiny_model):
    import torch

    from focus_detr.benchmarking.candidates import Request, load_candidate

    plain, deployed = (load_candidate(Request(f"{form}{tiny_model}")) for form in ("", "deployed:"))
    one, other = (candidate.work((64, 64), 1)() for candidate in (plain, deployed))
    assert type(deployed.predictor.model) is not type(plain.predictor.model)
    torch.testing.assert_close(one.logits, other.logits, rtol=1e-3, atol=1e-4)


def test_csv_holds_rows_and_environment(report, tmp_path):
    report.save_csv(tmp_path / "new" / "rows.csv")
    with (tmp_path / "new" / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert rows[1]["size"] == "64x96" and float(rows[1]["median_ms"]) == report.rows[1].median_ms
    assert rows[0]["cpu"] == report.environment["cpu"] and rows[0]["msda"] in ("cpu", "reference")


def test_the_table_shows_what_was_measured_only(report):
    lines = report.table().splitlines()
    assert len(lines) == 5
    assert "encoder" in lines[0] and "AP" not in lines[0] and "MiB" not in lines[0]


@pytest.mark.parametrize("accuracy", [None, 0.5])
def test_the_picture_is_drawn_with_and_without_accuracy(tmp_path, accuracy):
    rows = [
        Row("a", 0.3, "64x64", 1, 10.0, 12.0, 9.0, 9.0, 100.0, 1.0, tokens=100, kept=0.3, AP=accuracy),
        Row("b.onnx", None, "64x64", 1, 10.0, 12.0, 9.0, 9.0, 100.0, 1.0),
    ]
    BenchmarkReport(rows).save_plot(tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.width > 500


def test_the_environment_is_plain_and_names_the_active_back_end():
    environment = describe_environment()
    json.dumps(environment)
    assert sum(each["active"] for each in environment["msda"]) == 1
    assert flat(environment)["msda"] in ("cpu", "reference")


def test_threads_and_cores_are_given_back():
    import torch

    before = torch.get_num_threads(), usable_cores()
    with limited_threads(1):
        assert torch.get_num_threads() == 1 and usable_cores() == 1
    assert (torch.get_num_threads(), usable_cores()) == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("flags\t\t: fpu avx2 avx512_vnni amx_int8\nmodel name: X\n", "avx512_vnni amx_int8"),
        ("Features\t: fp asimd asimddp\n", "asimddp"),
        ("flags\t\t: fpu avx2\n", "no instructions of its own"),
        (None, "no instructions of its own"),
    ],
)
def test_the_environment_says_whether_the_processor_multiplies_in_8_bits(
    tmp_path, monkeypatch, content, said
):
    if content is not None:
        (tmp_path / "cpuinfo").write_text(content)
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    assert describe_environment()["int8"] == said
