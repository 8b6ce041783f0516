"""Evaluations of a plan's runs in small files, so that many hours may be spent bit by bit and anywhere."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

TRUTH, FOUND = "ground_truth.json", "predictions.json"
_DECIMALS = {"bbox": 2, "score": 5}  # hundredths of a pixel


def keep(evaluations: Iterable[Path], path: Path) -> None:
    """What a run's evaluations (folders that `evaluate` wrote) found, in one file; what was to be found,
    in one beside it for all runs."""
    found = {}
    for folder in evaluations:
        found[folder.name] = _columns(json.loads((folder / FOUND).read_text()))
        truth = folder / TRUTH
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path.with_name(f"{TRUTH}.xz"), json.loads(truth.read_text()))
    _write(path, found)


def restore(path: Path, run: Path) -> None:
    """Write a kept run's evaluations into its folder, as `evaluate` does, unless they are there."""
    truth = json.dumps(_read(path.with_name(f"{TRUTH}.xz")))
    for name, columns in _read(path).items():
        folder = run / name
        if not (folder / FOUND).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / TRUTH).write_text(truth)
            (folder / FOUND).write_text(json.dumps(_rows(columns)))


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {
        key: [_rounded(row[key], _DECIMALS.get(key)) for row in rows] for key in (rows[0] if rows else ())
    }


def _rows(columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _rounded(value: Any, decimals: int | None) -> Any:
    if decimals is None:
        return value
    return [round(each, decimals) for each in value] if isinstance(value, list) else round(value, decimals)


def _write(path: Path, content: Any) -> None:
    path.write_bytes(lzma.compress(json.dumps(content, separators=(",", ":")).encode(), preset=9))


def _read(path: Path) -> Any:
    return json.loads(lzma.decompress(path.read_bytes()))
