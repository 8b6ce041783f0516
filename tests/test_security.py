"""SECURITY.md and the page of reliability: each promise names its test, which is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "focus_detr"


def rows(document: str) -> list[str]:
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
    table = [line for line in lines if line.startswith("| ")]
    return [line for line in table if not re.match(r"\| (---|Promise|When)", line)]


def named_tests(file: str) -> set[str]:
    nodes = ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
    return {
        node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("document", ["SECURITY.md", "docs/reliability.md"])
def test_every_promise_names_a_test_that_is_there(document: str) -> None:
    promises = rows(document)
    assert len(promises) > 20
    for promise in promises:
        named = re.search(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?` \|$", promise)
        assert named, f"no test: {promise}"
        known = named_tests(named[1])
        assert named[2] in known if named[2] else known, promise


def test_nothing_waits_by_a_clock_that_can_be_set() -> None:
    """`time.time` is for what people read, and jobs' ages, which do not follow it when it jumps."""
    found = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = isinstance(node, ast.ImportFrom) and node.module == "time"
            if imported and "time" in [alias.name for alias in node.names]:
                found.append(path.relative_to(SOURCE).as_posix())
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("time.time", "datetime.now"):
                found.append(path.relative_to(SOURCE).as_posix())
    assert set(found) == {"service/jobs/journal.py"}
