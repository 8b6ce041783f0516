"""Explaining: what a model looks at in a picture, and what of a data set its budgets leave out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from focus_detr.explaining.picture import PictureExplanation as PictureExplanation
    from focus_detr.explaining.picture import explain_picture as explain_picture
    from focus_detr.explaining.recall import DataExplanation as DataExplanation
    from focus_detr.explaining.recall import explain_data as explain_data
    from focus_detr.explaining.run import explain as explain

# Imported when asked for, as in `focus_detr.evaluation`.
_HOME = {
    "DataExplanation": "recall",
    "PictureExplanation": "picture",
    "explain": "run",
    "explain_data": "recall",
    "explain_picture": "picture",
}

__all__ = ["DataExplanation", "PictureExplanation", "explain", "explain_data", "explain_picture"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'focus_detr.explaining' has no attribute {name!r}")
    return getattr(importlib.import_module(f"focus_detr.explaining.{_HOME[name]}"), name)
