"""A page that runs a model in the browser: a folder of files for any web server, or none of one's own."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from focus_detr.errors import FocusDetrError
from focus_detr.export import onnx
from focus_detr.export.metadata import SIZE_STEP, Metadata
from focus_detr.export.web.runtime import copy_runtime
from focus_detr.export.web.weights import share_weights, without_remarks

if TYPE_CHECKING:
    from focus_detr.models import FocusDetrForObjectDetection

SERVICE = Path(__file__).parents[2] / "service"
_PICTURES_OF_OURS = SERVICE / "examples"
OWN = Path(__file__).parent / "page"
"""Modules that take the place of the service's: the engine, and what it needs."""
_PICTURES = {".jpg", ".jpeg", ".png", ".webp"}  # that every browser shows
# Nothing is loaded from, and nothing sent to, any other host.
_POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)


def write(
    model: FocusDetrForObjectDetection,
    folder: Path,
    metadata: Metadata,
    *,
    name: str,
    budgets: Sequence[float] = (),
    examples: Sequence[Path] = (),
) -> None:
    """Write the page, the model as ONNX for one picture at a time, and the runtime to a new folder.

    Args:
        name: what the page calls the model.
        budgets: those that the page offers beside the model's own, each a graph of its own.
        examples: pictures to offer on the page.
    """
    pictures = _checked(examples)
    for budget in budgets:
        model.encoder.accept(budget)  # refused before the long work, if at all
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        copy_runtime(unfinished / "runtime")  # first, as it may fail
        for source in (SERVICE / "page", OWN):
            shutil.copytree(source, unfinished, dirs_exist_ok=True)
        _set_policy(unfinished / "index.html")
        _copy_examples(pictures, unfinished / "examples")
        described = asdict(metadata) | {"name": name} | _write_graphs(model, unfinished, metadata, budgets)
        _write_json(unfinished / "model.json", described)
        unfinished.chmod(0o755)
        if folder.is_dir():
            folder.rmdir()  # empty, or it would have been refused
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_graphs(
    model: FocusDetrForObjectDetection, folder: Path, metadata: Metadata, budgets: Sequence[float]
) -> dict[str, Any]:
    """`graphs` and what is the same for all of them.

    Each has its file, its budget, None for the model's own, and the share of tokens that the page asks it by.
    """
    graphs: list[dict[str, Any]] = []
    told: dict[str, Any] = {}
    for budget in [None, *sorted(set(budgets))]:
        if budget is not None:
            model.set_budget(budget)
        told = _told(model, metadata)
        file = "model.onnx" if budget is None else f"model-{budget:g}.onnx"
        onnx.write(model, folder / file, metadata, told["insights"])
        without_remarks(folder / file)
        kept = told.pop("kept")
        share = budget if budget is not None else 1.0 if kept is None else kept
        graphs.append({"budget": budget, "share": share, "file": file, "kept": kept})
    weights = folder / "weights.bin" if budgets else None
    if weights is not None:
        share_weights([folder / graph["file"] for graph in graphs], weights)
    size = sum(file.stat().st_size for file in (folder / "model.onnx", weights) if file is not None)
    return told | {
        "graphs": graphs,
        "weights": None if weights is None else weights.name,
        "size_megabytes": round(size / 1e6, 1),
    }


def _set_policy(index: Path) -> None:
    """The policy that the service sends as a header, where no server of ours answers."""
    text = index.read_text(encoding="utf-8")
    head = '<meta charset="utf-8">'
    assert head in text
    meta = f'{head}\n  <meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    index.write_text(text.replace(head, meta, 1), encoding="utf-8")


def _checked(examples: Sequence[Path]) -> list[tuple[Path, str, str]]:
    """File, name and credit of each picture to offer: those that were given, or the package's own."""
    for path in examples:
        if path.suffix.lower() not in _PICTURES:
            raise FocusDetrError(f"{path}: no picture that every browser shows ({', '.join(_PICTURES)})")
        if not path.is_file():
            raise FocusDetrError(f"{path}: no such file")
    if examples:
        return [(path, path.stem, "") for path in examples]
    known = json.loads((_PICTURES_OF_OURS / "credits.json").read_text(encoding="utf-8"))
    return [(_PICTURES_OF_OURS / file, said["name"], said["credit"]) for file, said in known.items()]


def _copy_examples(pictures: list[tuple[Path, str, str]], folder: Path) -> None:
    folder.mkdir()
    if any(path.parent == _PICTURES_OF_OURS for path, _, _ in pictures):
        shutil.copyfile(_PICTURES_OF_OURS / "LICENSE", folder / "LICENSE")
    listed = []
    for number, (path, name, credit) in enumerate(pictures, start=1):
        file = f"{number}{path.suffix.lower()}"
        shutil.copyfile(path, folder / file)
        listed.append({"name": name, "url": f"examples/{file}", "credit": credit})
    _write_json(folder / "examples.json", {"examples": listed})


def _told(model: FocusDetrForObjectDetection, metadata: Metadata) -> dict[str, Any]:
    """What the graph says of the model: its `insights` by name, and what is the same for every picture.

    `kept`: mean share of tokens that encoder layers work on. `strides`: of the levels that tokens lie in, or
    None where they have none.
    """
    import torch

    from focus_detr.export.tracing import insights

    height, width = metadata.image_size or (10 * SIZE_STEP, 12 * SIZE_STEP)
    with torch.no_grad():
        outputs = model(torch.zeros(1, 3, height, width), with_samples=True)
    shapes = [(int(rows), int(columns)) for rows, columns in outputs.spatial_shapes]
    strides = [2 ** round(math.log2(height / rows)) for rows, _ in shapes]
    regular = shapes == [(-(-height // stride), -(-width // stride)) for stride in strides]
    kept = None
    if outputs.plan is not None:
        tokens = sum(rows * columns for rows, columns in shapes)
        kept = round(float(np.mean(outputs.plan.counts)) / tokens, 4)
    told = {"insights": list(insights(outputs)), "kept": kept}
    return told | {"strides": strides if regular else None}  # else nobody knows which token lies where


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
