"""Exported models: one file that ONNX Runtime, OpenVINO or plain torch runs, and reading it back.

The file holds the graph, the class names and the preprocessing; no custom operator is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from focus_detr.lazy import imported_on_use

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
__getattr__ = imported_on_use(__name__, _HOME)
