"""What a detector that is no network of ours answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class RawOutput:
    """Tensors or arrays, by the names that a model's own output has; `outputs["logits"]` reads them, too.

    Attributes:
        logits: (B,Q,k).
        pred_boxes: (B,Q,4) boxes_cxcywh.
        extra: of heads, by name.
    """

    logits: Any = None
    pred_boxes: Any = None
    extra: dict[str, Any] | None = None

    def __getitem__(self, name: str) -> Any:
        if name not in ("logits", "pred_boxes", "extra"):
            raise KeyError(name)
        return getattr(self, name)
