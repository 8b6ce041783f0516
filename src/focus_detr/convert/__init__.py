"""Foreign checkpoints to model folders: one file a layout.

from focus_detr.convert import convert_checkpoint
print(convert_checkpoint("focus_detr_r50.pth", "focus-detr-r50"))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from focus_detr.convert.converter import convert_checkpoint as convert_checkpoint
    from focus_detr.convert.report import ConversionReport as ConversionReport

_HOME = {"convert_checkpoint": "converter", "ConversionReport": "report"}

__all__ = ["ConversionReport", "convert_checkpoint"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'focus_detr.convert' has no attribute {name!r}")
    return getattr(importlib.import_module(f"focus_detr.convert.{_HOME[name]}"), name)
