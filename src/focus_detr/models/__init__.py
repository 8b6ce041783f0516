"""The detector and its parts, in the order data flows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from focus_detr.lazy import imported_on_use

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
__getattr__ = imported_on_use(__name__, _HOME)
