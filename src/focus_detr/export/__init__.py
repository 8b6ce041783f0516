"""Exported models: one file that ONNX Runtime, OpenVINO or plain torch runs, and reading it back.

The file holds the graph, the class names and the preprocessing; no custom operator is needed.
"""

from focus_detr.export.detector import ExportedDetector, load_exported
from focus_detr.export.exporter import FORMATS, export

__all__ = ["FORMATS", "ExportedDetector", "export", "load_exported"]
