"""Imports run one way: each floor of the package imports those below it alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "focus_detr"

# From the ground up. What a floor may import stands to its left.
FLOORS = [
    "_version", "lazy", "errors", "printable", "plain_yaml", "disk", "folders", "machine", "structures",
    "ops", "images", "losses", "models", "convert", "data", "zoo", "deploy", "inference", "export", "runtime",
    "pictures", "evaluation", "training", "benchmarking", "explaining", "doctor", "batch", "service", "auto",
    "api", "cli",
]  # fmt: skip

# Arrows that run up all the same, each for a reason.
EXCEPTIONS = {
    ("models/configuration.py", "zoo"): "FocusDetrConfig.from_preset, a short way to zoo.preset",
    ("inference/predictor.py", "export"): "exported files are models like any other, loaded on demand",
    ("export/tolerance.py", "evaluation"): "INT8 within a drop in AP measures candidates as `evaluate` does",
}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and module of each import of ours in a file, those inside functions and for types alone too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "focus_detr":
            yield from ((node.lineno, f"focus_detr.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.lineno, str(node.module)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)


def floor_of(module: str) -> int | None:
    package, _, rest = module.partition(".")
    name = rest.split(".")[0]
    return FLOORS.index(name) if package == "focus_detr" and name in FLOORS else None


def test_every_file_has_a_floor() -> None:
    rooms = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in SOURCE.rglob("*.py")}
    assert rooms - {"__init__", "__main__"} == set(FLOORS)


@pytest.mark.parametrize("floor", FLOORS)
def test_no_import_runs_up(floor: str) -> None:
    rising = []
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if name.split("/")[0].removesuffix(".py") != floor:
            continue
        for line, module in imports(path):
            target = floor_of(module)
            if target is None or target <= FLOORS.index(floor):
                continue
            if (name, FLOORS[target]) not in EXCEPTIONS:
                rising.append(f"{name}:{line} imports {module}")
    assert not rising, "\n".join(rising)


def test_every_exception_is_used() -> None:
    for (name, target), reason in EXCEPTIONS.items():
        found = {module.split(".")[1] for _, module in imports(SOURCE / name) if module.count(".")}
        assert target in found, f"{name} does not import {target} any more: {reason}"
