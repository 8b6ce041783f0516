"""Teachers: models whose answers a run learns from beside the labels; the recipe's ``teacher`` names one."""

from focus_detr.training.teachers.options import TeacherOptions, read_teacher
from focus_detr.training.teachers.task import TaughtTask, build_teacher

__all__ = ["TaughtTask", "TeacherOptions", "build_teacher", "read_teacher"]
