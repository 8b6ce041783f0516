"""The verb: its output for people and machines, its files, its refusals."""

import json

import pytest
from typer.testing import CliRunner

from focus_detr.cli import app
from focus_detr.errors import FocusDetrError

QUICK = ("--runs", "1", "--warmup", "0", "--no-memory", "--size", "64x96")


def run(*arguments):
    return CliRunner().invoke(app, ["benchmark", *map(str, arguments)], catch_exceptions=False)


def test_the_bundled_model_is_measured_into_table_csv_and_picture(tmp_path):
    files = ("--csv", tmp_path / "rows.csv", "--plot", tmp_path / "picture.png")
    result = run("blood-cells", *QUICK, "--threads", 1, *files)
    assert result.exit_code == 0
    header, row = result.stdout.splitlines()[-2:]
    assert header.split()[:4] == ["model", "keep", "size", "batch"]
    assert row.split()[:4] == ["blood-cells", "0.5", "64x96", "1"]
    assert (tmp_path / "rows.csv").read_text().count("\n") == 2
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_json_is_one_line_of_rows_and_environment(tiny_model):
    result = run(tiny_model, *QUICK, "--keep-ratio", 0.3, "--json")
    (line,) = result.stdout.splitlines()
    found = json.loads(line)
    assert sorted(found) == ["environment", "rows"]
    assert [row["keep_ratio"] for row in found["rows"]] == [0.3]
    assert {"cpu", "threads", "torch", "msda"} <= set(found["environment"])
    assert found["rows"][0]["gmacs"] == pytest.approx(
        sum(
            found["rows"][0][f"{part}_gmacs"]
            for part in ("backbone", "neck", "scoring", "encoder", "decoder")
        ),
        abs=3e-4,
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_models_and_presets_are_measured_in_half_precision(tiny_model, dtype):
    for name in (tiny_model, "preset:focus-detr-nano"):
        result = run(name, *QUICK, "--dtype", dtype, "--json")
        assert result.exit_code == 0
        (row,) = json.loads(result.stdout)["rows"]
        assert row["best_ms"] > 0


def test_env_tells_which_back_end_computes_and_why():
    text = run("--env").stdout
    assert "* cpu:" in text or "* reference:" in text
    environment = json.loads(run("--env", "--json").stdout)
    assert all(each["reason"] for each in environment["msda"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "which MODEL"),
        (("blood-cells", "--env"), "--env measures nothing"),
        (("blood-cells", "--size", "64"), "HEIGHTxWIDTH"),
        (("blood-cells", "--size", "64x-5"), "HEIGHTxWIDTH"),
        (("blood-cells", "--plot", "picture.doc"), "picture.doc"),
        (("no-such-model", *QUICK), "no-such-model"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, message):
    with pytest.raises(FocusDetrError, match=message):
        run(*arguments)
