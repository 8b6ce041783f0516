"""The verbs that hand over to training, evaluation and conversion: what they pass on and what they print."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from typer.testing import CliRunner

from focus_detr.cli import app
from focus_detr.errors import FocusDetrError


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def data(tmp_path):
    """A COCO data set: splits train and test of two images with one cell each; in test, one box is empty."""
    for split, width in (("train", 20), ("test", 0)):
        folder = tmp_path / "data" / split
        folder.mkdir(parents=True)
        images = [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in (1, 2)]
        for image in images:
            Image.new("RGB", (64, 48), (image["id"], width, 0)).save(folder / image["file_name"])
        annotations = [
            {
                "id": i,
                "image_id": i,
                "category_id": 7,
                "bbox": [5, 5, size, 20],
                "area": size * 20,
                "iscrowd": 0,
            }
            for i, size in ((1, 20), (2, width))
        ]
        categories = [{"id": 7, "name": "cell"}, {"id": 9, "name": "dot"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "_annotations.coco.json").write_text(json.dumps(content))
    return tmp_path / "data"


def test_check_counts_lists_problems_and_fails_on_errors(data):
    good = run("check", data, "--split", "train", "--json")
    assert good.exit_code == 0
    (part,) = json.loads(good.stdout)
    assert part.pop("covered") == pytest.approx(20 * 20 / (64 * 48), abs=0.01)
    [problem] = part.pop("problems")
    assert (problem["kind"], problem["severity"]) == ("unused-classes", "warning")
    assert part == {"split": "train", "images": 2, "objects": {"cell": 2, "dot": 0}}
    bad = run("check", data)
    assert bad.exit_code == 1
    assert "empty-box" in bad.stdout and "2 images" in bad.stdout
    assert "Boxes cover 13% of a picture" in bad.stdout


def test_check_says_small_shares_to_two_digits(data):
    file = data / "train" / "_annotations.coco.json"
    content = json.loads(file.read_text())
    for image in content["images"]:
        Image.new("RGB", (1200, 1000), (image["id"], 0, 0)).save(data / "train" / image["file_name"])
        image.update(width=1200, height=1000)
    content["annotations"][0]["bbox"] = [100, 100, 120, 90]
    content["annotations"].pop()
    file.write_text(json.dumps(content))
    assert "Boxes cover 0.45% of a picture" in run("check", data, "--split", "train").stdout


def test_check_tells_pictures_that_two_splits_share(data):
    for name in ("1.png", "2.png"):
        (data / "test" / name).write_bytes((data / "train" / name).read_bytes())
    report = json.loads(run("check", data, "--json").stdout)
    kinds = {part["split"]: [problem["kind"] for problem in part["problems"]] for part in report}
    assert "picture-in-two-splits" in kinds["train"] and "picture-in-two-splits" not in kinds["test"]


def test_check_takes_crowds_for_objects_where_asked(data):
    file = data / "train" / "_annotations.coco.json"
    file.write_text(file.read_text().replace('"iscrowd": 0', '"iscrowd": 1'))
    with pytest.raises(FocusDetrError, match="--crowds objects"):
        run("check", data, "--split", "train")
    [part] = json.loads(run("check", data, "--split", "train", "--crowds", "objects", "--json").stdout)
    assert part["objects"]["cell"] == 2


def test_evaluate_takes_crowds_for_objects_where_asked(data, tiny_model):
    file = data / "train" / "_annotations.coco.json"
    file.write_text(file.read_text().replace('"iscrowd": 0', '"iscrowd": 1'))
    arguments = ["evaluate", tiny_model, data, "--device", "cpu", "--split", "train", "--json"]
    with pytest.raises(FocusDetrError, match="--crowds objects"):
        run(*arguments)
    assert json.loads(run(*arguments, "--crowds", "objects").stdout)["objects"] == 2


def test_check_shows_no_control_characters(data):
    file = data / "train" / "_annotations.coco.json"
    file.write_text(file.read_text().replace('"cell"', json.dumps("ce\x1b[31mll\nerror: x")))
    shown = run("check", data, "--split", "train").stdout
    assert "\x1b" not in shown and "ce\\x1b[31mll\\nerror: x" in shown


def test_check_reports_what_it_can_before_a_split_that_is_refused(data, capsys):
    (data / "test" / "_annotations.coco.json").write_text("[")
    (data / "aside").mkdir()
    for arguments in ([], ["--json"]):
        result = CliRunner().invoke(app, ["check", str(data), *arguments])
        assert isinstance(result.exception, FocusDetrError) and "not valid json" in str(result.exception)
        assert "train" in result.stdout
    [train, test] = json.loads(result.stdout)
    assert train["images"] == 2 and "not valid json" in test["error"]


def test_evaluate_scores_the_split_asked_for_and_writes_the_report(data, tiny_model, tmp_path):
    arguments = ["evaluate", tiny_model, data, "--device", "cpu"]
    result = run(*arguments, "--split", "train", "--output", tmp_path / "report", "--json")
    report = json.loads(result.stdout)
    assert report["split"] == "train" and report["objects"] == 2 and 0 <= report["metrics"]["AP"] <= 1
    assert (tmp_path / "report" / "metrics.json").is_file()
    assert run(*arguments).stdout.startswith("data, split 'test'")


def test_paths_of_the_home_folder(data, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run("check", "~/data", "--split", "train").exit_code == 0
    run("evaluate", tiny_model, "~/data", "--split", "train", "--device", "cpu", "--output", "~/report")
    assert (tmp_path / "report" / "metrics.json").is_file()


def test_evaluate_merges_classes_where_asked(data, tiny_model, tmp_path):
    arguments = ["evaluate", tiny_model, data, "--device", "cpu", "--split", "train", "--json"]
    everything = json.loads(run(*arguments).stdout)
    merged = ",".join(f"{each['name']}=thing" for each in everything["classes"])
    report = json.loads(run(*arguments, "--classes", merged).stdout)
    assert [(each["name"], each["objects"]) for each in report["classes"]] == [("thing", 2)]
    with pytest.raises(FocusDetrError, match="have no class 'nonesuch'"):
        run(*arguments, "--classes", "nonesuch=thing")


def test_evaluate_deploys_where_asked(data, tiny_model, monkeypatch):
    from focus_detr.deploy import deploy

    made, deployed = [], deploy.deploy
    monkeypatch.setattr(
        deploy, "deploy", lambda model, **options: made.append(1) or deployed(model, **options)
    )
    for extra, times in ([], 0), (["--deploy"], 1):
        result = run("evaluate", tiny_model, data, "--device", "cpu", *extra, "--json")
        assert result.exit_code == 0 and len(made) == times


@pytest.fixture
def training(monkeypatch):
    import focus_detr.training

    calls = []

    def train(data, **options):
        calls.append((data, options))
        return SimpleNamespace(output=Path("o"), model=Path("o/best"), steps=3, metrics={"AP": 0.25})

    monkeypatch.setattr(focus_detr.training, "train", train, raising=False)
    return calls


def test_train_passes_its_options_on_and_prints_the_best_metrics(training):
    result = run(
        "train", "d", "--preset", "dino-lite0", "--recipe", "small-data", "--set", "epochs=2", "--resume"
    )
    data, options = training.pop()
    assert data == Path("d")
    given = {name: value for name, value in options.items() if value is not None}
    expected = {"model": "dino-lite0", "recipe": "small-data", "overrides": {"epochs": 2}, "resume": True}
    assert given == {**expected, "trust_plugins": False}
    assert "AP" in result.stdout and "0.250" in result.stdout and "o/best" in result.stdout


def test_train_learns_classes_as_they_are_named(training):
    run("train", "d", "--classes", "car=vehicle,truck=vehicle,dog")
    wanted = {"car": "vehicle", "truck": "vehicle", "dog": "dog"}
    assert training.pop()[1]["overrides"] == {"classes": wanted}
    run("train", "d", "--classes", "car")
    assert training.pop()[1]["overrides"] == {"classes": {"car": "car"}}
    for options in (["--classes", "car=x", "--set", "classes={car: y}"], ["--classes", ","]):
        with pytest.raises(FocusDetrError, match="--classes"):
            run("train", "d", *options)


def test_train_keeps_thresholds_with_the_model(training):
    run("train", "d", "--threshold", "0.3,car=0.4", "--threshold", "a,b=0.5")
    by_class = {"car": 0.4, "a,b": 0.5}
    wanted = {"model.score_threshold": 0.3, "model.class_thresholds": by_class}
    assert training.pop()[1]["overrides"] == wanted
    run("train", "d", "--threshold", "0.3")  # for all, whatever the model had that is started from
    wanted = {"model.score_threshold": 0.3, "model.class_thresholds": {}}
    assert training.pop()[1]["overrides"] == wanted
    for setting in ("model={num_queries: 9}", "model.class_thresholds.car=0.2"):
        with pytest.raises(
            FocusDetrError, match=f"--threshold, --set {setting.partition('=')[0]}: say the same"
        ):
            run("train", "d", "--threshold", "car=0.4", "--set", setting)
    with pytest.raises(FocusDetrError, match="--threshold 'car=2': must be a score"):
        run("train", "d", "--threshold", "car=2")


def test_train_prints_json_where_asked(training):
    result = json.loads(run("train", "d", "--json").stdout)
    assert result == {"output": "o", "model": "o/best", "steps": 3, "metrics": {"AP": 0.25}}


def test_one_of_several_processes_prints_what_they_did(training, monkeypatch):
    from focus_detr.training import processes

    for first in (True, False):
        monkeypatch.setattr(
            processes, "PartialState", lambda first=first: SimpleNamespace(is_main_process=first)
        )
        assert bool(run("train", "d", "--json").stdout) == first


def test_convert_passes_its_options_on(monkeypatch):
    import focus_detr.convert

    calls = []

    def convert_checkpoint(*arguments, **options):
        calls.append((arguments, options))
        return SimpleNamespace(to_dict=lambda: {"layout": "x"})

    monkeypatch.setattr(focus_detr.convert, "convert_checkpoint", convert_checkpoint, raising=False)
    given = ["--temperature", "20", "--offset", "0", "--set", "high_levels=2"]
    result = run("convert", "a.pth", "--output", "out", *given, "--json")
    assert json.loads(result.stdout) == {"layout": "x"}
    arguments, options = calls.pop()
    assert arguments == (Path("a.pth"), Path("out"))
    assert (options["temperature"], options["offset"], options["overwrite"]) == (20.0, 0.0, False)
    assert options["policy_options"] == {"high_levels": 2}


def test_compare_takes_what_evaluate_wrote_of_several_runs(data, tiny_model, tmp_path):
    for name in ("one", "two"):
        report = ["--split", "train", "--output", tmp_path / name]
        run("evaluate", tiny_model, data, "--device", "cpu", *report)
    sides = ["--a", tmp_path / "one", "--b", tmp_path / "two"]
    found = json.loads(run("compare", *sides, "--json").stdout)
    assert (found["images"], found["runs"], found["measures"]["AP"]["difference"]) == (2, 1, 0)
    assert "2 runs a side" in run("compare", *sides, *sides, "--draws", "200").stdout
    with pytest.raises(FocusDetrError, match="1 runs of a and 2 of b"):
        run("compare", *sides, "--b", tmp_path / "one")


def test_evaluate_works_on_the_share_of_tokens_asked_for(data, tiny_model, monkeypatch):
    from focus_detr.models.policies.focus import FocusPolicy

    shares, forward = [], FocusPolicy.forward
    monkeypatch.setattr(
        FocusPolicy,
        "forward",
        lambda self, tokens, plan: (
            shares.append(plan.counts[0] / tokens.content.shape[1]) or forward(self, tokens, plan)
        ),
    )
    arguments = ["evaluate", tiny_model, data, "--device", "cpu", "--split", "train", "--json"]
    assert run(*arguments, "--budget", "1").exit_code == 0 and set(shares) == {1.0}
    shares.clear()
    assert run(*arguments, "--budget", "0.1").exit_code == 0 and max(shares) < 0.3
    with pytest.raises(FocusDetrError, match="budget=2"):
        run(*arguments, "--budget", "2")


def test_calibrate_writes_a_model_that_has_its_budget(data, tiny_model, tmp_path):
    from focus_detr import FocusDetrConfig

    arguments = ["calibrate", tiny_model, data, "--device", "cpu", "--split", "train", "--budget", "0.2"]
    found = json.loads(run(*arguments, "--output", tmp_path / "found", "--json").stdout)
    assert [row["budget"] for row in found["rows"]] == [0.2, 1.0]
    assert FocusDetrConfig.from_pretrained(tmp_path / "found").budget == found["budget"]
    assert (tmp_path / "found" / "calibration.png").is_file()
    assert run("evaluate", tmp_path / "found", data, "--device", "cpu", "--split", "train").exit_code == 0


def test_calibrate_writes_a_model_that_has_shares_of_its_layers_and_levels(
    data, tiny_model, tmp_path, monkeypatch
):
    from focus_detr import FocusDetrForObjectDetection
    from focus_detr.evaluation import share_calibration

    monkeypatch.setattr(share_calibration, "LEAST", 0.15)
    arguments = ["calibrate", tiny_model, data, "--device", "cpu", "--split", "train", "--budget", "0.3"]
    with pytest.raises(FocusDetrError, match="auto: its rule"):
        run(*arguments, "--auto", "--layers")
    arguments += ["--levels", "--max-drop", "0.9", "--output", tmp_path / "found"]
    found = json.loads(run(*arguments, "--json").stdout)
    shares = found["shares"]
    assert shares["mean"] < found["budget"] and {"layer 1", "levels apart"} <= {
        r["part"] for r in shares["rows"]
    }
    config = FocusDetrForObjectDetection.from_pretrained(tmp_path / "found").config
    assert config.budget is None and shares["options"].items() <= config.policy_options.items()
    assert run("evaluate", tmp_path / "found", data, "--device", "cpu", "--split", "train").exit_code == 0


def test_budgets_are_chosen_picture_by_picture_by_the_rule_that_calibrate_finds(data, tiny_model, tmp_path):
    from focus_detr import FocusDetrConfig

    on = [data, "--device", "cpu", "--split", "train"]
    with pytest.raises(FocusDetrError, match="focus-detr calibrate MODEL DATA --auto"):
        run("evaluate", tiny_model, *on, "--budget", "auto")
    with pytest.raises(FocusDetrError, match="--budget 'most': must be a finite number, 0.05 to 1, or auto"):
        run("evaluate", tiny_model, *on, "--budget", "most")
    arguments = ["calibrate", tiny_model, *on, "--budget", "0.2", "--max-drop", "0.9", "--auto"]
    found = json.loads(run(*arguments, "--output", tmp_path / "found", "--json").stdout)
    rule = found["auto"]["rule"]
    config = FocusDetrConfig.from_pretrained(tmp_path / "found")
    assert config.auto_budget == rule and config.budget == found["budget"]
    report = json.loads(run("evaluate", tmp_path / "found", *on, "--budget", "auto", "--json").stdout)
    assert report["budgets"] == found["auto"]["pictures"]

    pictures = sorted(str(path) for path in data.rglob("*") if path.suffix in (".jpg", ".png"))
    arguments = ["predict", tmp_path / "found", *pictures, "--device", "cpu", "--budget", "auto"]
    seen = json.loads(run(*arguments, "--output", tmp_path / "out", "--json").stdout)
    assert {each["budget"] for each in seen} <= set(rule["buckets"])
    with Image.open(tmp_path / "out" / "budgets.png") as page:
        assert len(page.convert("RGB").getcolors(2**24)) > 10
    assert "Budgets chosen:" in run(*arguments).stdout
    with pytest.raises(FocusDetrError, match="both choose the budget"):
        run(*arguments, "--deadline", "1s")
