"""Foreign checkpoints to model folders: one file a layout.

from focus_detr.convert import convert_checkpoint
print(convert_checkpoint("focus_detr_r50.pth", "focus-detr-r50"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from focus_detr.lazy import imported_on_use

if TYPE_CHECKING:
    from focus_detr.convert.converter import convert_checkpoint as convert_checkpoint
    from focus_detr.convert.report import ConversionReport as ConversionReport

_HOME = {"convert_checkpoint": "converter", "ConversionReport": "report"}

__all__ = ["ConversionReport", "convert_checkpoint"]
__getattr__ = imported_on_use(__name__, _HOME)
