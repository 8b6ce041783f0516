"""The command: its help, its errors and exit codes, and the documents that show it."""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from focus_detr.cli import app
from focus_detr.cli.app import main
from focus_detr.cli.options import parse_settings
from focus_detr.cli.output import print_json
from focus_detr.errors import FocusDetrError
from focus_detr.zoo.presets import list_presets

ROOT = Path(__file__).parent.parent.parent
VERBS = sorted(typer.main.get_command(app).commands)


def run(*arguments):
    return CliRunner().invoke(app, list(arguments), prog_name="focus-detr")


def documented_commands():
    """Every `focus-detr ...` line of the README and the documents' code blocks, continued lines joined."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        if page.name == "cli.md":
            continue
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip().startswith("focus-detr "):
                    yield pytest.param(line.strip(), id=f"{page.stem}: {line.strip()}")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_a_meaning_for_every_option(verb):
    result = run(verb, "--help")
    assert result.exit_code == 0
    assert f"focus-detr {verb}" in result.output
    command = typer.main.get_command(app).commands[verb]
    assert [option.name for option in command.params if not getattr(option, "help", None)] == []


@pytest.mark.parametrize("command", documented_commands())
def test_documented_commands_parse(command):
    words = shlex.split(command, comments=True)[1:]
    if words == ["--help"] or words == ["--version"]:
        return
    parser = typer.main.get_command(app).commands[words[0]]
    parser.make_context(words[0], words[1:])


def test_the_command_line_reference_is_current():
    script = runpy.run_path(str(ROOT / "scripts" / "write_cli_reference.py"))
    assert script["TARGET"].read_text() == script["reference"](), "run: make docs"


def test_presets_prints_names_and_one_whole_configuration():
    assert run("presets").output.split() == list_presets()
    assert json.loads(run("presets", "--json").output) == list_presets()
    said = run("presets", "dino-r50", "--set", "token_policy=sparse", "--set", "keep_ratio=0.2", "--json")
    shown = json.loads(said.output)
    assert (shown["token_policy"], shown["policy_options"]["keep_ratio"]) == ("sparse", 0.2)
    assert json.loads(run("presets", "focus-detr-lite0", "--json").output)["model_type"] == "focus_detr"
    shown = yaml.safe_load(run("presets", "focus-detr-lite0").output)
    assert shown["model_type"] == "focus_detr" and "id2label" not in shown


def test_recipes_prints_names_and_one_whole_recipe():
    names = json.loads(run("recipes", "--json").output)
    assert "small-data" in names
    assert json.loads(run("recipes", "small-data", "--json").output)["name"] == "small-data"


def test_an_error_of_ours_is_one_line_and_exit_code_2(tmp_path):
    for arguments in (["predict", "no-such-model", "x.jpg"], ["recipes", "no-such-recipe"]):
        result = subprocess.run(
            [sys.executable, "-m", "focus_detr", *arguments], capture_output=True, text=True
        )
        assert result.returncode == 2
        assert result.stdout == ""
        assert result.stderr.startswith("error: ") and len(result.stderr.splitlines()) == 1
        assert arguments[1] in result.stderr


def test_an_unexpected_error_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["focus-detr", "presets"])
    monkeypatch.setattr("focus_detr.zoo.presets.list_presets", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "m", "x.jpg", "--format", "coco,xml"], "'xml'"),
        (["predict", "m", "x.jpg", "--heatmap"], "--output"),
        (["predict", "m", "x.jpg", "--format", "csv"], "--format: needs a folder"),
        (["predict", "m", "x.jpg", "--output", __file__], "is not a folder"),
        (["predict", "m", "x.jpg", "--output", f"{__file__}/in"], "is not a folder"),
        (["evaluate", "m", "data", "--output", __file__], "is not a folder"),
        (["convert", "x.pth", "--output", __file__], "is not a folder"),
        (["convert", __file__, "--output", "no-such-folder"], "not a readable torch checkpoint"),
        (["train", "data", "--output", __file__], "is not a folder"),
        (["predict", "focus-detr-r50", "x.jpg"], "is a preset"),
        (["predict", "focus-detr-r51", "x.jpg"], "did you mean 'focus-detr-r50'"),
        (["check", "/no/such/place"], "no such folder or file"),
        (["predict", "m", "x.jpg", "--threshold", "1.5"], "threshold"),
        (["predict", "m", "x.jpg", "--batch-size", "0"], "batch-size"),
        (["predict", "m"], "IMAGE"),
        (["predict", "m", "x.jpg", "--treshold", "0.5"], "--threshold"),
        (["train", "data", "--set", "epochs"], "key=value"),
        (["train", "data", "--set", "seed=1", "--set", "seed=2"], "'seed' is set twice"),
        (["train", "data", "--val-share", "0.7"], "val_share=0.7: is a share of the images and must lie in"),
        (["train", "data", "--time", "soon"], "time='soon': must be a length of time as in 20m"),
        (["train", "data", "--time", "5m", "--set", "epochs=3"], "epochs=3: both say how long to train"),
        (["train", "data", "--val-share", "0.1", "--set", "val_share=0.2"], "'val_share' is set twice"),
        (["train", "data", "--set", "model={}", "--set", "model.num_queries=9"], "and 'model', which"),
        (["benchmark", "m", "--csv", f"{__file__}/in.csv"], "is not a folder"),
        (["benchmark", "m", "--plot", str(Path(__file__).parent)], "--plot"),
        (["trian"], "train"),
    ],
)
def test_an_unusable_argument_is_named(arguments, message):
    result = run(*arguments)
    assert result.exit_code != 0
    assert message in (result.output + str(result.exception))


def test_settings_are_read_as_yaml():
    pairs = ["epochs=3", "rate=0.5", "drops=[1, 2]", "name=a=b", "patience=null", "model={num_queries: 5}"]
    expected = {"epochs": 3, "rate": 0.5, "drops": [1, 2], "name": "a=b", "patience": None}
    assert parse_settings(pairs) == {**expected, "model": {"num_queries": 5}}


@pytest.mark.parametrize("pair", ["epochs", "=3", "drops=[1"])
def test_a_setting_that_is_none_is_refused(pair):
    with pytest.raises(FocusDetrError, match="--set"):
        parse_settings([pair])


def test_json_has_no_nan(capsys):
    print_json({"ap": float("nan"), "list": (1.5, float("inf")), 3: Path("a")})
    assert json.loads(capsys.readouterr().out) == {"ap": None, "list": [1.5, None], "3": "a"}


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8", pytest.param("ascii", marks=pytest.mark.slow)])
def test_a_console_that_cannot_show_a_name_shows_it_escaped(encoding, tmp_path):
    picture = tmp_path / "猫\x1b[31m.png"
    picture.write_bytes(b"no image")
    script = "from focus_detr.cli.app import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", script, "predict", "blood-cells", picture, "--json"],
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
    )
    shown = result.stderr.decode(encoding)
    assert result.returncode == 1 and "Traceback" not in shown
    assert ("猫" if encoding == "utf-8" else "\\u732b") in shown
    assert "\x1b[31m" not in shown and "\\x1b[31m.png: passed over" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        "predict blood-cells x --output '' ",
        "predict blood-cells x --output=",
        "predict blood-cells x --classes ' '",
        "predict blood-cells ''",
        "predict '' x",
        "train '' ",
        "train x --output ''",
        "train x --set ''",
        "evaluate blood-cells x --split ''",
        "check x --split ''",
        "convert x --output ''",
        "export blood-cells --output ''",
        "presets ''",
        "benchmark blood-cells --csv ''",
    ],
)
def test_an_empty_argument_is_refused_before_anything_is_done(arguments, tmp_path, monkeypatch):
    """As a variable of a shell that is not set leaves it; an empty path would be the current folder."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FocusDetrError, match="is empty .*; give a value, or leave it out"):
        CliRunner().invoke(app, shlex.split(arguments), catch_exceptions=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        "predict blood-cells x --budget nan",
        "predict blood-cells x --budget=-inf",
        "convert x --output y --temperature nan",
        "benchmark blood-cells --pause inf",
        "benchmark blood-cells --keep-ratio nan",
    ],
)
def test_a_number_that_is_none_is_refused(arguments):
    with pytest.raises(FocusDetrError, match="--.*: must be a finite number"):
        CliRunner().invoke(app, shlex.split(arguments), catch_exceptions=False)


@pytest.mark.parametrize("verb", ["export", "benchmark"])
@pytest.mark.parametrize("size", ["640", "-5x5", "0.5x3", "99999999x99999999", f"{'9' * 50}x1"])
def test_a_size_that_no_picture_has_is_refused(verb, size):
    with pytest.raises(FocusDetrError, match=f"--size '{size}': "):
        CliRunner().invoke(app, [verb, "blood-cells", "--size", size], catch_exceptions=False)
