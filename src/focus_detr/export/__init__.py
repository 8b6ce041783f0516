"""Exported models: one file that ONNX Runtime, OpenVINO or plain torch runs, and reading it back.

The file holds the graph, the class names and the preprocessing; no custom operator is needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from focus_detr.export.detector import ExportedDetector as ExportedDetector
    from focus_detr.export.detector import load_exported as load_exported
    from focus_detr.export.exporter import FORMATS as FORMATS
    from focus_detr.export.exporter import export as export

_HOME = {
    "ExportedDetector": "detector",
    "load_exported": "detector",
    "FORMATS": "exporter",
    "export": "exporter",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
