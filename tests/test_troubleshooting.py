"""The messages that the page on troubleshooting explains are still those that the package says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "troubleshooting.md"
# As `name: message`, or one with an ellipsis where a value stands.
MESSAGES = re.findall(r"^- `([^`\n]+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def said() -> list[str]:
    """Every text of the package; values put into it are an ellipsis."""
    texts = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                texts.append("".join(str(part) for part in parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    # What stands after one and after several, as `in_number` takes it: the page has it of several.
    return [re.sub(r"\[[^|\]]*\|([^\]]*)\]", r"\1", text.replace("`", "")) for text in texts]


def is_said(message: str, said: list[str]) -> bool:
    """Whether one text holds the message's words between ellipses, in their order."""
    words = ".*".join(re.escape(part) for part in message.split("…"))
    return any(re.search(words, text, re.DOTALL) for text in said)


def test_there_are_messages() -> None:
    assert len(MESSAGES) > 30


@pytest.mark.parametrize("message", MESSAGES)
def test_the_package_says_it(message: str, said: list[str]) -> None:
    assert is_said(message, said)


def test_what_nobody_says_is_seen(said: list[str]) -> None:
    assert not is_said("…: holds a walk already; continue it", said)
    assert not is_said("give another output…holds a run already", said)
