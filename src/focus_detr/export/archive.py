"""What a .pt2 file holds, looked at before torch loads it: such a file can carry code, and torch runs it.

torch reads parts of it as pickles without restriction, and sizes as expressions that sympy evaluates. The
files that `export` writes need neither: their pickles hold tensors, their expressions sizes.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from focus_detr.errors import FocusDetrError

_WEIGHTS = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
_CONFIGS = re.compile(r"data/(weights|constants)/\w+\.json")
_GRAPHS = re.compile(r"models/\w+\.json|serialized_exported_program\.json")
# Sample inputs; of the layout before torch 2.8, weights and constants too, whatever their ending says.
_PICKLES = re.compile(r"data/\w+/\w+\.pt|serialized_(state_dict|constants|example_inputs)\.(json|pt)")
_PLAIN = re.compile(r"extra(_files)?/[\w.]+|archive_format|archive_version|version|byteorder|\.data/\w+")

# What sizes are written with: variables, functions of torch's exporter and of sympy, the inputs' sizes.
_NAMES = re.compile(
    r"[suz]+f?\d+|L|max|min|Max|Min|Add|Mul|Pow|PowByNatural|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|IntTrueDiv|"
    r"FloatTrueDiv|ModularIndexing|TruncToInt|CeilToInt|FloorToInt|RoundToInt|ToFloat|Where|Identity|Abs|Eq|Ne|"
    r"Equality|Unequality|Lt|Le|Gt|Ge|StrictLessThan|StrictGreaterThan|LessThan|GreaterThan|And|Or|Not|Symbol|"
    r"Integer|Rational|Float|true|false|oo|int_oo"
)
_NODES = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.operator, ast.unaryop, ast.boolop,
    ast.cmpop, ast.Call, ast.keyword, ast.Subscript, ast.Constant, ast.Name, ast.Attribute, ast.Load,
)  # fmt: skip


def refuse_code(path: Path) -> None:
    """Raise `FocusDetrError` for a .pt2 file that could run code, or holds what `export` does not write."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name, member in _members(archive, path):
                if _WEIGHTS.fullmatch(name) or _PLAIN.fullmatch(name):
                    continue
                content = archive.read(member)
                if _PICKLES.fullmatch(name):
                    _check_pickle(content, name, path)
                elif _CONFIGS.fullmatch(name):
                    _check_config(json.loads(content), name, path)
                elif _GRAPHS.fullmatch(name):
                    _check_graph(json.loads(content), name, path)
                else:
                    raise _refused(path, name, "is nothing that focus-detr export writes")
    except FocusDetrError:
        raise
    except Exception as error:  # no archive, cut short, a pickle in place of JSON, nested without end
        raise FocusDetrError(
            f"{path}: cannot be read as a .pt2 file ({type(error).__name__}: {error})"
        ) from error


def _members(archive: zipfile.ZipFile, path: Path) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    """Members by their name below the archive's own folder."""
    members = [member for member in archive.infolist() if not member.is_dir()]
    tops = {member.filename.split("/", 1)[0] for member in members}
    below = len(tops) == 1 and all("/" in member.filename for member in members)
    names = [member.filename.split("/", 1)[1] if below else member.filename for member in members]
    if len({name.casefold() for name in names}) < len(names):
        raise _refused(path, "a name", "stands for two members, of which torch may read the other")
    yield from zip(names, members, strict=True)


def _check_pickle(content: bytes, name: str, path: Path) -> None:
    import torch

    if not content:
        return
    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise _refused(path, name, "is a pickle of more than tensors") from error


def _check_config(config: Any, name: str, path: Path) -> None:
    for entry in config["config"].values():
        folder = name.rsplit("/", 1)[0]
        if entry.get("use_pickle") or not _WEIGHTS.fullmatch(f"{folder}/{entry['path_name']}"):
            raise _refused(path, name, f"names {str(entry['path_name'])[:80]!r}, a pickle")


def _check_graph(graph: Any, name: str, path: Path) -> None:
    for text in set(_expressions(graph)):
        if not _is_size(text):
            raise _refused(path, name, f"holds an expression that is no size ({text[:80]!r})")


def _expressions(value: Any) -> Iterator[str]:
    """Every text of a graph that torch evaluates, or makes a function of."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield from (str(each[key]) for key in ("expr_str",) if key in each)
            yield from map(str, each.get("guards_code") or ())
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)


def _is_size(text: str) -> bool:
    """Whether an expression is arithmetic of sizes, with no way to anything else."""
    for node in ast.walk(ast.parse(text.strip(), mode="eval")):
        if not isinstance(node, _NODES):
            return False
        if isinstance(node, ast.Name) and not _NAMES.fullmatch(node.id):
            return False
        if isinstance(node, ast.Attribute) and node.attr not in ("size", "shape"):
            return False
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not node.value.isidentifier():
            return False
    return True


def _refused(path: Path, name: str, what: str) -> FocusDetrError:
    return FocusDetrError(
        f"{path}: not loaded, since its {name} {what}, which could run code; export the model anew with "
        "focus-detr export"
    )
