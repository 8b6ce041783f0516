"""Exported files whose budget is an input: at each the same answers as the model's, in every runtime."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from focus_detr import FocusDetrImageProcessor
from focus_detr.benchmarking import benchmark
from focus_detr.errors import FocusDetrError
from focus_detr.export import export, load_exported
from focus_detr.export.budgets import TakenBudgets
from focus_detr.export.metadata import Metadata
from focus_detr.inference import Predictor
from focus_detr.inference.costs import CostCurve, fingerprint
from focus_detr.structures.budget import Budget
from helpers.small_models import SHALLOW, image, reactivated_model, small_model

SIZE = (96, 160)
BUDGETS = (0.05, 0.2, 0.37, 0.9, 1.0)


def model_of(policy="focus"):
    return small_model(**SHALLOW, token_policy=policy)


def processor():
    return FocusDetrImageProcessor(size={"height": SIZE[0], "width": SIZE[1]})


@pytest.mark.parametrize("policy", ["focus", "sparse"])
@torch.no_grad()
def test_counts_are_those_of_the_model_at_any_budget_and_size(policy):
    model = model_of(policy)
    budgets = TakenBudgets.of(model, None)
    for height, width in ((96, 160), (224, 96), (320, 416)):
        picture = image(height, width, dtype=torch.float32)[None]
        for budget in (None, *BUDGETS):
            plan = model(picture, budget=budget).plan
            counts = budgets.counts(Budget.of(budget), height, width)
            assert counts.tolist() == list(plan.counts) and counts.dtype == np.int64
    model.set_budget(0.15)
    stored = TakenBudgets.of(model, None)
    assert stored.counts(None, 96, 160).tolist() == stored.counts(Budget(0.15), 96, 160).tolist()
    assert stored.usual == 0.15 and budgets.usual == pytest.approx(
        0.5 * (1 if policy == "sparse" else 1.5 / 2)
    )


def test_a_fixed_size_knows_its_tokens_and_files_keep_what_they_know():
    budgets = TakenBudgets.of(model_of(), SIZE)
    assert budgets.tokens == 12 * 20 + 6 * 10 + 3 * 5 + 2 * 3
    config = model_of().config
    config.class_thresholds = {config.id2label[0]: 0.2}
    metadata = Metadata.of(config, processor(), SIZE, None, budgets)
    assert metadata.class_thresholds and Metadata.from_json(metadata.to_json(), "a.onnx") == metadata
    first = json.loads(metadata.to_json())
    del first["class_thresholds"]  # as in files of before
    assert Metadata.from_json(json.dumps(first), "a.onnx") == replace(metadata, class_thresholds={})
    older = metadata.to_json().replace(', "budgets": ', ', "version2": ')
    with pytest.raises(FocusDetrError, match="does not know"):
        Metadata.from_json(older, "a.onnx")


def test_what_cannot_have_its_budget_free_is_refused_before_it_is_traced(tmp_path):
    options = {"processor": processor(), "budget": "any"}
    with pytest.raises(FocusDetrError, match="format 'torch-export' has its budget fixed"):
        export(model_of(), tmp_path / "a.pt2", "torch-export", **options)
    with pytest.raises(FocusDetrError, match="token_policy='salience' has its counts fixed"):
        export(model_of("salience"), tmp_path / "a.onnx", image_size=SIZE, **options)
    with pytest.raises(FocusDetrError, match="token_policy='dense' has its counts fixed"):
        export(model_of("dense"), tmp_path / "a.onnx", image_size=SIZE, **options)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("FOCUS_DETR_CACHE", str(tmp_path / "cache"))


@pytest.fixture(
    scope="module", params=[pytest.param(each, marks=pytest.mark.slow) for each in ("onnx", "openvino")]
)
def exported(request, tmp_path_factory):
    """A small model in each runtime, its budget an input."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime" if request.param == "onnx" else "openvino")
    path = tmp_path_factory.mktemp("any") / {"onnx": "model.onnx", "openvino": "model.xml"}[request.param]
    options = {"processor": processor(), "image_size": SIZE, "batch_size": 1, "budget": "any"}
    return export(model_of(), path, request.param, **options)


@torch.no_grad()
def test_at_every_budget_it_answers_as_the_model_does(exported):
    model, file = model_of(), Predictor.from_pretrained(exported)
    pictures = torch.stack([image(*SIZE, seed=seed, dtype=torch.float32) for seed in range(2)])
    mask = torch.ones(2, *SIZE, dtype=torch.long)
    seen = []
    for budget in (None, *BUDGETS):
        expected = model(pictures, budget=budget)
        found = file.run_prepared(pictures, mask, budget=budget)
        torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=2e-4)
        torch.testing.assert_close(found.pred_boxes, expected.pred_boxes, rtol=0, atol=2e-4)
        seen.append(found.logits)
    assert all(not torch.allclose(a, b, atol=1e-3) for a, b in zip(seen, seen[1:], strict=False))


def test_threads_with_different_budgets_do_not_meet(exported):
    file = Predictor.from_pretrained(exported)
    picture = image(*SIZE, dtype=torch.float32)[None], torch.ones(1, *SIZE, dtype=torch.long)
    asked = [0.1, 0.5, 1.0] * 4
    expected = [file.run_prepared(*picture, budget=budget).logits for budget in asked]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda budget: file.run_prepared(*picture, budget=budget).logits, asked))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_its_budget_can_be_set_and_travels_and_is_measured(exported, monkeypatch):
    file = Predictor.from_pretrained(exported)
    picture = torch.zeros(1, 3, *SIZE), torch.ones(1, *SIZE, dtype=torch.long)
    said = file.run_prepared(*picture, budget=0.1).logits
    file.set_budget(0.1)
    assert torch.equal(file.run_prepared(*picture).logits, said)
    copy = pickle.loads(pickle.dumps(file.model))
    assert torch.equal(copy.infer(*picture)[0], said)
    with pytest.raises(FocusDetrError, match="budget=0.01"):
        file.set_budget(0.01)
    with pytest.raises(FocusDetrError, match="cannot choose by the picture"):
        file.set_budget("auto")
    rows = benchmark([str(exported)], budgets=[0.1, 1.0], warmup=0, runs=1, memory=False, sizes=[SIZE]).rows
    assert [row.budget for row in rows] == [0.1, 1.0]
    assert fingerprint(file.model) == fingerprint(load_exported(exported))

    from focus_detr.benchmarking import run

    curve = CostCurve((0.05, 1.0), (0.05, 1.0))
    costs = type("Costs", (), {"of_model": classmethod(lambda c, p: c()), "of": lambda s, size: curve})
    monkeypatch.setattr(run, "Costs", costs)
    options = {"warmup": 0, "runs": 1, "memory": False, "sizes": [SIZE]}
    (row,) = benchmark([str(exported)], deadline="200ms", **options).rows
    assert row.budget == 0.2


def test_a_stream_with_a_deadline_keeps_to_few_graphs(exported):
    file = Predictor.from_pretrained(exported)
    found = list(file.predict([Image.new("RGB", (160, 96))] * 3, deadline="100s", budget=0.85))
    budgets = {each.budget for each in found}
    assert budgets == ({0.7} if exported.suffix == ".xml" else {0.85})


@pytest.mark.slow
@torch.no_grad()
def test_sizes_and_batches_may_be_free_beside(tmp_path):
    pytest.importorskip("onnxruntime")
    model = model_of()
    stepped = FocusDetrImageProcessor(size={"shortest_edge": 96, "longest_edge": 160})
    file = Predictor.from_pretrained(
        export(model, tmp_path / "free.onnx", processor=stepped, budget="any"), device="cpu"
    )
    for size, batch in (((96, 160), 1), ((224, 128), 3), ((64, 64), 2)):
        pictures = torch.stack([image(*size, seed=seed, dtype=torch.float32) for seed in range(batch)])
        for budget in (None, 0.1, 1.0):
            found = file.run_prepared(pictures, torch.ones(batch, *size, dtype=torch.long), budget=budget)
            torch.testing.assert_close(found.logits, model(pictures, budget=budget).logits, rtol=0, atol=2e-4)


@pytest.mark.slow
@torch.no_grad()
def test_layers_of_a_file_choose_anew_at_every_budget(tmp_path):
    pytest.importorskip("onnxruntime")
    model = reactivated_model(**SHALLOW)
    model.encoder.change_options(fine_share=0.2)  # counts that follow from counts
    options = {"processor": processor(), "image_size": SIZE, "batch_size": 1, "budget": "any"}
    file = Predictor.from_pretrained(export(model, tmp_path / "model.onnx", "onnx", **options))
    picture, mask = image(*SIZE, dtype=torch.float32)[None], torch.ones(1, *SIZE, dtype=torch.long)
    for budget in (None, *BUDGETS):
        expected = model(picture, budget=budget)
        found = file.run_prepared(picture, mask, budget=budget)
        torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=2e-4)
    first, second = (set(model(picture).plan.tokens(layer)[0].tolist()) for layer in range(2))
    assert second - first
