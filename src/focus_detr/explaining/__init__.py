"""Explaining: what a model looks at in a picture, and what of a data set its budgets leave out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from focus_detr.lazy import imported_on_use

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
__getattr__ = imported_on_use(__name__, _HOME)
