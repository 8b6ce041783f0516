"""The detector and its parts, in the order data flows."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from focus_detr.models.detector import FocusDetrOutput as FocusDetrOutput
    from focus_detr.models.pretrained import FocusDetrForObjectDetection as FocusDetrForObjectDetection
    from focus_detr.models.segmenter import (
        FocusDetrForInstanceSegmentation as FocusDetrForInstanceSegmentation,
    )

_HOME = {
    "FocusDetrForObjectDetection": "pretrained",
    "FocusDetrOutput": "detector",
    "FocusDetrForInstanceSegmentation": "segmenter",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'focus_detr.models' has no attribute {name!r}")
    return getattr(importlib.import_module(f"focus_detr.models.{_HOME[name]}"), name)
