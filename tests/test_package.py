"""The package as a whole: what an import costs, which names there are, what the documents say."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import focus_detr
from focus_detr.errors import FocusDetrError
from focus_detr.zoo.resolve import list_models, resolve_model

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("statement", ["import focus_detr", "from focus_detr.cli import app"])
def test_importing_loads_no_heavy_library(statement):
    heavy = ("torch", "transformers", "numpy", "PIL", "scipy", "matplotlib", "yaml", "tqdm", "rich")
    code = f"import sys; {statement}; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", focus_detr.__all__)
def test_every_public_name_can_be_had(name):
    assert getattr(focus_detr, name) is not None


def test_every_public_name_is_listed_and_an_unknown_one_refused():
    assert set(focus_detr.__all__) == set(dir(focus_detr))
    with pytest.raises(AttributeError, match="no attribute 'Detr'"):
        _ = focus_detr.Detr


def test_every_dependency_is_pinned():
    names = {canonicalize_name(each.name) for each in requirements()}
    assert names <= pins("constraints.txt").keys()


def test_the_oldest_versions_tested_are_the_oldest_declared():
    """A bound that is not the pin would be a promise that nobody tries. Tools of developers promise none."""
    oldest, newest = pins("constraints-oldest.txt"), pins("constraints.txt")
    for each in requirements(without=("dev", "docs")):
        name = canonicalize_name(each.name)
        lowest = [bound.version for bound in each.specifier if bound.operator in (">=", "==")]
        assert lowest and oldest[name] == Version(lowest[0]), each
        assert oldest[name] in each.specifier and newest[name] in each.specifier, each


def requirements(without: tuple[str, ...] = ()) -> list[Requirement]:
    """What pyproject.toml asks for, in itself and in its extras, but for itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [items for extra, items in project["optional-dependencies"].items() if extra not in without]
    wanted = [Requirement(item) for items in [project["dependencies"], *extras] for item in items]
    return [each for each in wanted if each.name != "focus-detr"]


def pins(file: str) -> dict[str, Version]:
    lines = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / file).read_text(), flags=re.MULTILINE)
    return {name: Version(version) for name, version in lines}


def test_a_model_is_found_as_a_folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert resolve_model(tmp_path) == tmp_path


@pytest.mark.parametrize("name", list_models())
def test_a_bundled_model_is_complete(name):
    files = {path.name for path in resolve_model(name).iterdir()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= files


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: "no-such-model", r"'no-such-model' not found.*bundled name"),
        (lambda folder: folder, r"no model in this folder \(it has no config.json\)"),
        (lambda folder: folder / "weights.pth", r"is a file.*focus-detr convert"),
        (lambda folder: "./some/folder", r"'./some/folder' not found"),
    ],
)
def test_what_is_no_model_is_refused_with_what_would_work(tmp_path, make, message):
    (tmp_path / "weights.pth").touch()
    with pytest.raises(FocusDetrError, match=message):
        resolve_model(make(tmp_path))


def test_a_hub_out_of_reach_is_said(monkeypatch):
    import huggingface_hub

    def offline(*arguments, **options):
        raise OSError("no connection")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(
        FocusDetrError, match=r"'owner/name'.*hub did not give it: no connection.*bundled name"
    ):
        resolve_model("owner/name")


def test_a_training_run_stands_for_its_best_model_and_else_its_last(tmp_path):
    for name in ("last", "best"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        assert resolve_model(tmp_path) == tmp_path / name
