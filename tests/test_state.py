"""No module of the package holds state that changes: what one caller does is nothing to another."""

import ast
from pathlib import Path

import pytest

import focus_detr

ROOT = Path(focus_detr.__file__).parent
CONTAINERS = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)
MAKERS = {"dict", "list", "set", "OrderedDict", "defaultdict", "deque", "Counter"}
CHANGES = {
    "append", "extend", "insert", "remove", "pop", "popitem", "clear", "update", "setdefault", "add",
    "discard", "move_to_end", "appendleft",
}  # fmt: skip


def faults(source):
    """What in a module's source changes the module, or another: (line, what)."""
    tree = ast.parse(source)
    containers, imported = set(), set()
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and _is_container(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            containers |= {target.id for target in targets if isinstance(target, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {each.asname or each.name.split(".")[0] for each in node.names}
    found = []
    # A module may make itself: what counts is what functions do later.
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for node in dict.fromkeys(part for function in functions for part in ast.walk(function)):
        if isinstance(node, ast.Global):
            found.append((node.lineno, f"global {', '.join(node.names)}"))
        elif (
            isinstance(node, ast.FunctionDef)
            and _caches(node)
            and "Tensor" in ast.unparse(node.returns or node)
        ):
            found.append((node.lineno, f"{node.name} keeps tensors for the process"))
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES
        ):
            if _name(node.func.value) in containers:
                found.append((node.lineno, ast.unparse(node.func)))
        elif isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load):
            owned = containers if isinstance(node, ast.Subscript) else imported
            if _name(node.value) in owned:
                found.append((node.lineno, f"{ast.unparse(node)} is set"))
    return found


def _is_container(value):
    called = isinstance(value, ast.Call) and _name(value.func) in MAKERS
    return called or isinstance(value, CONTAINERS)


def _name(node):
    return node.id if isinstance(node, ast.Name) else None


def _caches(function):
    return any("cache" in ast.unparse(decorator) for decorator in function.decorator_list)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_in_a_module_changes(path):
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "_on = False\ndef f():\n    global _on\n    _on = True",
        "_kept = {}\ndef f(key):\n    _kept[key] = 1",
        "_kept: dict[str, int] = dict()\ndef f(key):\n    _kept.pop(key)",
        "_seen = []\ndef f(key):\n    _seen.append(key)",
        "@lru_cache(maxsize=64)\ndef table(shapes) -> Tensor:\n    return torch.tensor(shapes)",
        "import warnings\ndef f():\n    warnings.showwarning = print",
        "import torch\ndef f():\n    torch.backends = None",
    ],
)
def test_what_would_change_is_found(source):
    assert len(faults(source)) == 1
