"""focus-detr-runtime in an environment of its own: it needs no torch, and finds what the whole package finds.

    python scripts/check_runtime.py [--model MODEL.onnx] [PICTURES ...]

Makes a virtual environment, installs ./runtime there with what it depends on (`PIP_CONSTRAINT` and pip's own
settings hold), and compares both commands' JSON to the character. Without a model, a small one is exported.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
ABSENT = ("torch", "transformers", "safetensors", "yaml", "tqdm", "typer", "scipy", "requests")


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path)
    parser.add_argument("pictures", nargs="*", default=[str(ROOT / "examples" / "everyday")])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or _exported(Path(folder) / "model.onnx")
        environment = Path(folder) / "venv"
        venv.create(environment, with_pip=True)
        binaries = environment / ("Scripts" if os.name == "nt" else "bin")
        _run(binaries / "python", "-m", "pip", "install", "--quiet", str(ROOT / "runtime"))
        found = f"import importlib.util as u; print([n for n in {ABSENT} if u.find_spec(n)])"
        there = _run(binaries / "python", "-c", found)
        if there.strip() != "[]":
            sys.exit(f"the environment has what it should not need: {there}")
        arguments = [str(model), *options.pictures, "--json"]
        small = _run(binaries / "focus-detr-runtime", *arguments)
        whole = _run(Path(sys.executable), "-m", "focus_detr", "predict", *arguments)
        if small != whole:
            sys.exit("focus-detr-runtime finds other objects than focus-detr predict")
    print(f"focus-detr-runtime: the same {small.count('box_xyxy')} boxes, without torch")


def _exported(path: Path) -> Path:
    options = ["--format", "onnx", "--size", "320x416", "--batch", "1", "--output", str(path)]
    _run(Path(sys.executable), "-m", "focus_detr", "export", "everyday", *options)
    return path


def _run(program: Path, *arguments: str) -> str:
    # Outside the repository's folder, whose own files would be found first.
    environment = {
        k: v for k, v in os.environ.items() if k != "PYTHONPATH" or program == Path(sys.executable)
    }
    ran = subprocess.run([program, *arguments], stdout=subprocess.PIPE, text=True, env=environment)
    if ran.returncode:
        sys.exit(f"{program.name} {' '.join(arguments)}: exit code {ran.returncode}")
    return ran.stdout


if __name__ == "__main__":
    main()
