"""What can be told of a data set from its files alone: pictures looked at once, then many small checks."""

from focus_detr.data.doctor.checks import CHECKS, Check
from focus_detr.data.doctor.examine import Examination, examine
from focus_detr.data.doctor.findings import Example, Finding, Subject

__all__ = ["CHECKS", "Check", "Examination", "Example", "Finding", "Subject", "examine"]
