"""Tracking: objects of a video keep a number from frame to frame, and are counted at lines and in zones."""

from focus_detr.inference.tracking.counting import Counts, Line, Zone
from focus_detr.inference.tracking.tracking import Tracking

__all__ = ["Counts", "Line", "Tracking", "Zone"]
