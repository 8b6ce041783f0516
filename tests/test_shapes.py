"""A file that says shapes by letters begins with what they mean."""

import ast
import re
from pathlib import Path

import pytest

import focus_detr

ROOT = Path(focus_detr.__file__).parent
FILES = [
    path for room in ("models", "structures", "losses", "ops") for path in sorted((ROOT / room).rglob("*.py"))
]
# (B,N,C), (B,K_0), (3,M), (B,Q,3*h*L*P), (...,T): at least two axes, each of letters, numbers and signs.
SHAPE = re.compile(r"\((?:[A-Za-z0-9_'*/+ ]{1,12}|\.\.\.)(?:,(?:[A-Za-z0-9_'*/+]{1,12}|\.\.\.))+,?\)")
LETTER = re.compile(r"(?<![A-Za-z])[A-Zhkt](?![A-Za-z])")


def prose(source):
    """Comments and documentation of a file, but for its legend, and the legend."""
    parts = [line.split("# ", 1)[1] for line in source.splitlines() if "# " in line]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            parts.append(ast.get_docstring(node) or "")
    text = "\n".join(parts)
    found = re.search(r"Shapes: (.*?\.)(?:\n|$)", text, re.S)
    return (text.replace(found[0], "") if found else text), (found[1] if found else "")


def letters(text):
    shapes = [shape for shape in SHAPE.findall(text) if "..." in shape or LETTER.search(shape)]
    return {letter for shape in shapes for letter in LETTER.findall(shape)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_letters_of_shapes_are_explained_at_the_head_of_the_file(path):
    text, legend = prose(path.read_text())
    unexplained = letters(text) - set(LETTER.findall(legend))
    assert not unexplained, f"add {', '.join(sorted(unexplained))} to '# Shapes: ...' below the docstring"


def test_the_reader_of_shapes_finds_them():
    text, legend = prose('"""What (B,N,h,C/h) is."""\n\n# Shapes: B images.\n\nx = f(B, N)  # (B,K_0)\n')
    assert letters(text) == {"B", "N", "h", "C", "K"} and legend == "B images."
