"""The benchmark scripts: their parts at tiny sizes; their figures are for machines with time."""

import argparse
import csv
import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from focus_detr.benchmarking import Timing, count_macs
from focus_detr.structures.masks import Mask
from focus_detr.zoo.presets import preset
from helpers.explained import small_predictor
from helpers.pictures import noise

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = (
    "any_budget", "data_loading", "deadline", "eight_bits_kinds", "encoder_scaling", "exported_budgets",
    "family", "frontier", "gpu", "macs", "masks", "memory_4k", "peer_accuracy", "peers", "query_threshold",
    "reactivation", "service", "start", "steady", "teachers", "throughput",
    "training_memory", "training_step", "whole_model",
)  # fmt: skip


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    for name in (*SCRIPTS, "common", "dial", "exported", "kept", "planned", "straightforward"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_says_how_it_is_called(name):
    assert f"python benchmarks/{name}.py" in importlib.import_module(name).__doc__


def test_the_gpu_script_compares_every_form_with_float64(capsys):
    gpu = importlib.import_module("gpu")
    rows = list(gpu.kernels("cpu", dry=True))
    assert {row["dtype"] for row in rows} == {"fp32", "fp16", "bf16"}
    assert all(row["ms"] > 0 and float(row["error"]) < 1e-2 for row in rows)


def test_the_plain_form_counts_more_than_ours_by_heads_on_every_token():
    small = dict(
        d_model=32, attention_heads=4, encoder_layers=1, decoder_layers=1, cascade=[0.5], num_queries=8
    )
    config = preset("focus-detr-lite0", quirks="original", **small)
    plain = importlib.import_module("macs").plain_macs(config, 64, 96)
    cost, channels = count_macs(config, 64, 96), config.d_model
    # The three layers of the box head and the scorer's mean, for every token.
    assert plain > cost.total + cost.tokens * 2 * channels**2
    assert plain < cost.total + cost.tokens * 10 * channels**2


@pytest.mark.parametrize("form", ["straightforward", "ours", "ours, checkpointing"])
def test_a_training_step_has_a_loss_and_a_backward_pass(form, monkeypatch):
    training_memory = importlib.import_module("training_memory")
    work = training_memory.step("focus-detr-lite0", form, (64, 96), 1, 1)
    seen = []
    backward = torch.Tensor.backward
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss: seen.append(loss.item()) or backward(loss))
    work()
    assert len(seen) == 1 and seen[0] > 0


def test_a_step_for_any_budget_has_the_parts_of_its_passes():
    any_budget = importlib.import_module("any_budget")
    plain, whole, taught = (
        any_budget.step("focus-detr-lite0", name, (64, 96), 1, "cpu")()
        for name in ("plain", "all tokens", "any budget")
    )
    assert plain.keys() == whole.keys() < taught.keys()


def test_the_encoder_alone_works_on_the_share_asked_for():
    encoder_scaling = importlib.import_module("encoder_scaling")
    common = importlib.import_module("common")
    model = common.random_model("focus-detr-lite0")
    with torch.no_grad():
        work, (tokens, kept) = encoder_scaling.encoder(model, (64, 96), 0.5)
        memory = work()
    assert tokens == 8 * 12 + 4 * 6 + 2 * 3 + 2
    assert memory.plan.counts[0] == tokens // 2 + 1
    assert kept == sum(memory.plan.counts) / 3


def test_every_form_of_the_whole_model_answers_alike(tmp_path):
    whole_model, common = importlib.import_module("whole_model"), importlib.import_module("common")
    model, images = common.random_model("focus-detr-lite0", quirks="original"), common.random_images(64, 96)
    with torch.no_grad():
        plain, eager, deployed = (
            whole_model.make(form, model, images, tmp_path, 1)()
            for form in ("straightforward", "eager", "deployed")
        )
    torch.testing.assert_close(plain["logits"], eager.logits, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(deployed.logits, eager.logits, rtol=1e-3, atol=1e-4)


def test_a_peer_of_transformers_is_built_without_the_network():
    peer = importlib.import_module("peers").transformers_peer("RTDetrV2", {"decoder_layers": 2})
    assert peer.config.num_labels == 80 and not peer.training


def test_ratios_are_to_the_baseline_by_clock_and_by_processor():
    common = importlib.import_module("common")
    columns = common.timing_columns(Timing((2.0,), (1.0,)), Timing((4.0,), (3.0,)))
    assert (columns["times_faster"], columns["cpu_times_faster"]) == (2.0, 3.0)
    assert (columns["median_ms"], columns["cpu_ms"]) == (2000.0, 1000.0)


def test_rows_are_written_with_their_environment(tmp_path, capsys):
    common = importlib.import_module("common")
    path = common.write("name", [{"form": "plain", "ms": 1.5}], tmp_path / "rows.csv")
    (row,) = csv.DictReader(path.open())
    assert (row["form"], row["ms"]) == ("plain", "1.5") and row["threads"]
    assert '"environment"' in capsys.readouterr().out.splitlines()[-1]


def test_every_host_and_policy_is_measured_at_the_published_size():
    family = importlib.import_module("family")
    pairs = list(family.pairs())
    assert set(family.PUBLISHED) <= set(pairs)
    for pair in pairs:
        config = family.configuration(*pair)
        assert (config.host, config.token_policy, config.d_model) == (*pair, 256)


def test_steady_scores_keep_more_of_the_last_frames_tokens(tmp_path):
    steady = importlib.import_module("steady")
    predictor = small_predictor()
    noise(128, 96, 40).save(tmp_path / "a.jpg")
    options = argparse.Namespace(frames=6, budget=0.1, threshold=0.0)
    rows = [steady.flicker(predictor, [(tmp_path / "a.jpg", 0)], share, options) for share in (0.0, 0.9)]
    assert 0 < rows[1]["tokens_flicker"] < rows[0]["tokens_flicker"]
    assert rows[0]["frames"] == 6 and rows[0]["boxes"] >= rows[0]["boxes_alone"]


def test_the_plan_of_teachers_names_them_and_its_recipes_are_ones():
    import yaml

    from focus_detr.training.recipe import Recipe, load_recipe
    from focus_detr.training.teachers import read_teacher

    teachers = importlib.import_module("teachers")
    plan = yaml.safe_load((BENCHMARKS / "teachers.yaml").read_text())
    given = {key: value for key, value in plan["recipe"].items() if key != "extends"}
    for run, said in plan["runs"].items():
        recipe = teachers.with_teacher(plan, run, Path("runs/bccd"), 1)["runs"][run].get("recipe", {})
        checked = load_recipe(plan["recipe"]["extends"]).replace({**given, **recipe})
        options = read_teacher(checked.teacher)
        assert isinstance(checked, Recipe) and (options is not None) == ("taught_by" in said)
        assert options is None or options.model == "runs/bccd/large-seed1/last"


def test_the_plan_of_masks_adds_them_to_the_model_it_starts_from():
    import yaml

    from focus_detr.training.finetuning import load_for_finetuning
    from focus_detr.training.recipe import load_recipe

    masks, planned = importlib.import_module("masks"), importlib.import_module("planned")
    plan = yaml.safe_load((BENCHMARKS / "masks.yaml").read_text())
    for name, run in [("potholes", "dense"), ("nuclei", "any"), ("nuclei", "focus")]:
        said = planned.recipe_of(plan, name, run, seed=1)
        recipe = load_recipe(said.pop("extends")).replace(said)
        model, report = load_for_finetuning(plan["model"], ["thing"], **recipe.model)
        assert recipe.max_steps == 400 and recipe.seed == 1 and model.config.heads == ["masks"]
        assert len(report.kept) > 5 * len(report.new)
        assert model.config.token_policy == ("dense" if run == "dense" else "focus")
    at = {(run, budget, label) for run, budget, label, _ in masks.comparisons(plan)}
    assert {("focus", 0.3, "dense"), ("any", 0.3, "focus"), ("any", 0.1, "all-tokens")} < at


def test_the_plan_of_policy_options_has_models_that_keep_what_they_know(tmp_path):
    import yaml

    from focus_detr.training.finetuning import load_for_finetuning
    from focus_detr.training.recipe import load_recipe

    planned = importlib.import_module("planned")
    plan = yaml.safe_load((BENCHMARKS / "policy_options.yaml").read_text())
    for run, said in plan["runs"].items():
        recipe = planned.recipe_of(plan, "bccd", run, seed=1)
        recipe = load_recipe(recipe.pop("extends")).replace(recipe)
        model, report = load_for_finetuning(plan["model"], ["RBC", "WBC", "Platelets"], **recipe.model)
        assert report.new == [] and recipe.max_steps == 350
        asked = said.get("model", {}).get("policy_options", {})
        assert asked.items() <= model.config.policy_options.items() and bool(asked) == (run != "plain")
    for run, far in (("plain", 2.0), ("ffn-half", 0.0)):
        write_evaluated(tmp_path / "bccd" / f"{run}-seed0" / "at-0.3", far)
    (found,) = planned.table(plan, tmp_path)
    assert (found["run"], found["against"], found["seeds"]) == ("ffn-half", "plain", 1)
    assert found["AP_difference"] == round(found["AP"] - found["AP_other"], 4)


def write_evaluated(folder, far):
    """An object found in its box, its mask so many pixels beside it."""
    size, image = (20, 40), {"image_id": 0, "category_id": 0, "bbox": [2.0, 2.0, 10.0, 10.0]}
    truth, found = (
        Mask.of_rings([[2 + x, 2, 12 + x, 2, 12 + x, 12, 2 + x, 12]]).to_coco(size) for x in (0.0, far)
    )
    objects = [{"id": 1, **image, "area": 100.0, "iscrowd": 0, "segmentation": truth}]
    images = [{"id": 0, "file_name": "a.jpg", "width": size[1], "height": size[0]}]
    told = {"images": images, "annotations": objects, "categories": [{"id": 0, "name": "thing"}]}
    folder.mkdir(parents=True)
    (folder / "ground_truth.json").write_text(json.dumps(told))
    (folder / "predictions.json").write_text(json.dumps([{**image, "score": 0.9, "segmentation": found}]))


def test_rows_of_a_plan_compare_masks_where_there_are_some(tmp_path):
    planned = importlib.import_module("planned")
    for name, far in (("one", 0.0), ("other", 12.0)):
        write_evaluated(tmp_path / f"{name}-seed0" / "at-0.3", far)
    pairs = planned.evaluated(tmp_path, ("one", 0.3), ("other", 0.3), [0, 1])
    row = planned.row("set", 0.3, "one", pairs)
    assert row["seeds"] == 1 and row["AP50_difference"] == 0.0
    assert (row["mask_AP50_other"], row["mask_AP50"], row["mask_AP50_difference"]) == (1.0, 0.0, -1.0)


def test_a_plan_goes_on_from_kept_evaluations(tmp_path, monkeypatch):
    planned, kept = importlib.import_module("planned"), importlib.import_module("kept")
    plan = {"seeds": [0], "sets": {"set": {"split": "test"}}, "model": "everyday", "recipe": {}}
    plan["runs"] = {"one": {"budgets": [0.3]}, "other": {"budgets": [0.3]}, "third": {"budgets": [0.3]}}
    for name, far in (("one", 0.0), ("other", 12.0)):
        run = tmp_path / "runs" / "set" / f"{name}-seed0"
        write_evaluated(run / "at-0.3", far)
        kept.keep([run / "at-0.3"], tmp_path / "kept" / "set" / f"{run.name}.json.xz")

    def rows(_, runs):
        pairs = planned.evaluated(runs / "set", ("one", 0.3), ("other", 0.3), [0])
        return [planned.row("set", 0.3, "one", pairs)] if pairs else []

    def train(plan, name, data, run, seed, folder, device):
        trained.append(run)
        (folder / "last").mkdir(parents=True)

    trained, expected = [], rows(plan, tmp_path / "runs")
    monkeypatch.setattr(planned, "train", train)
    evaluate = lambda *_, output, **__: write_evaluated(output, 0.0)  # noqa: E731
    monkeypatch.setattr(planned, "evaluate", evaluate)
    (tmp_path / "plan.yaml").write_text(json.dumps(plan))
    words = "--plan plan.yaml --data set=data --kept kept --runs new --output a.csv".split()
    monkeypatch.setattr(sys, "argv", ["script.py", *words])
    monkeypatch.chdir(tmp_path)
    planned.main("script.py", None, rows)
    assert trained == ["third"] and rows(plan, tmp_path / "new") == expected
    assert {path.name for path in (tmp_path / "kept" / "set").iterdir()} == {
        "ground_truth.json.xz", "one-seed0.json.xz", "other-seed0.json.xz", "third-seed0.json.xz",
    }  # fmt: skip


def test_plans_go_on_with_the_same_model_but_for_what_is_compared():
    import yaml

    from focus_detr.training import load_for_finetuning
    from focus_detr.training.recipe import load_recipe

    plan = yaml.safe_load((BENCHMARKS / "reactivation.yaml").read_text())
    given = {key: value for key, value in plan["recipe"].items() if key != "extends"}
    recipe = load_recipe(plan["recipe"]["extends"])
    for said in plan["sets"].values():
        recipe.replace({**given, **said.get("recipe", {})})
    new = {}
    for run, said in plan["runs"].items():
        recipe.replace({**given, **said.get("recipe", {}), "model": said.get("model", {})})
        _, report = load_for_finetuning(plan["model"], ["drone"], **said.get("model", {}))
        new[run] = {name for name in report.new if "class_head" not in name and "label_embedding" not in name}
    changed = {run: names for run, names in new.items() if names}
    assert changed.keys() == {"any-reactivated"}
    assert all("rescorers" in name for name in changed["any-reactivated"])


def test_each_form_leaves_one_kind_of_layer_in_float():
    forms = importlib.import_module("eight_bits_kinds").forms
    blocks = [
        "backbone.model.stages.0", "backbone", "encoder.layers.0.ffn", "encoder.layers.1.ffn",
        "encoder.layers.0.deformable_attention", "host.decoder.layers.0",
    ]  # fmt: skip
    found = forms(blocks)
    assert found.pop("int8") == [] and len(found) == 4
    assert sorted(sum(found.values(), [])) == sorted(blocks)
    assert found["encoder, feed-forward in float32"] == blocks[2:4]
