"""Training: recipe -> loop over the loss of a task -> a folder with the best and the last model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from focus_detr.lazy import imported_on_use

if TYPE_CHECKING:
    from focus_detr.training.finetuning import FinetuningReport as FinetuningReport
    from focus_detr.training.finetuning import load_for_finetuning as load_for_finetuning
    from focus_detr.training.recipe import Recipe as Recipe
    from focus_detr.training.recipe import list_recipes as list_recipes
    from focus_detr.training.recipe import load_recipe as load_recipe
    from focus_detr.training.run import TrainingResult as TrainingResult
    from focus_detr.training.run import train as train
    from focus_detr.training.tasks import Task as Task

_HOME = {
    "FinetuningReport": "finetuning",
    "Recipe": "recipe",
    "Task": "tasks",
    "TrainingResult": "run",
    "list_recipes": "recipe",
    "load_for_finetuning": "finetuning",
    "load_recipe": "recipe",
    "train": "run",
}

__all__ = list(_HOME)
__getattr__ = imported_on_use(__name__, _HOME)
