"""What a training step computes: the recipe's ``task`` names one of these."""

from focus_detr.training.tasks.any_budget import AnyBudgetTask
from focus_detr.training.tasks.base import TASKS, Step, Task, build_task
from focus_detr.training.tasks.detection import DetectionTask

__all__ = ["TASKS", "AnyBudgetTask", "DetectionTask", "Step", "Task", "build_task"]
