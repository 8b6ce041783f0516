"""A wheel brings the C++ operator to machines that have no compiler."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from focus_detr.ops.cpu.build import BuildError, find_compiler

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_operator_of_a_wheel_needs_no_compiler(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    try:
        find_compiler()
    except BuildError as error:
        pytest.skip(f"the wheel cannot be built here: {error}")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "src"):
        place = ROOT / name
        ignore = shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__")
        copy = shutil.copytree if place.is_dir() else shutil.copy
        copy(place, source / name, **({"ignore": ignore} if place.is_dir() else {}))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", str(source), "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")

    code = (
        "import torch, focus_detr.ops.cpu.build as build\n"
        "from focus_detr.ops.dispatch import describe_backends\n"
        f"assert build.__file__.startswith({str(tmp_path)!r}), build.__file__\n"
        "try:\n    build.find_compiler()\nexcept build.BuildError:\n"
        "    print([each.name for each in describe_backends() if each.active])"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed"), "PATH": "", "CXX": ""}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "['cpu']"
