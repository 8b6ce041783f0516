"""Training stands on public names of other libraries: private ones change without a word."""

import ast
from pathlib import Path

import pytest

from focus_detr import training

FILES = sorted(Path(training.__file__).parent.rglob("*.py"))
LIBRARIES = ("torch", "accelerate", "transformers", "numpy")


def private_names(source: str) -> list[str]:
    """What a module takes of other libraries whose name begins with an underscore."""
    names, libraries = [], set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
            libraries |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
            libraries |= {alias.asname or alias.name for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node).split(".")[0] in libraries:
            names.append(ast.unparse(node))
    parts = {name: name.split("(")[0].split(".") for name in names}
    return [name for name in names if any(p[:1] == "_" and p[:2] != "__" for p in parts[name])]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_private_name_of_another_library_is_used(file):
    assert private_names(file.read_text(encoding="utf-8")) == []


def test_private_names_are_seen():
    assert private_names("import torch\ntorch._foreach_lerp_(a, b)\n") == ["torch._foreach_lerp_"]
    assert private_names("from torch.nn.modules.batchnorm import _NormBase\n")
    assert private_names("from accelerate import Accelerator\nAccelerator._models\n")
    assert private_names("import torch\nself._own(torch.load(x))\n") == []
