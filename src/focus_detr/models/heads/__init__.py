"""Heads: what is said of every query, from the decoder's states. `HEADS` knows those beside class and box."""

from focus_detr.models.heads.base import HEADS, Head
from focus_detr.models.heads.masks import MaskHead

__all__ = ["HEADS", "Head", "MaskHead"]
