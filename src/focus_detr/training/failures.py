"""What a run says when it cannot go on: numbers that are not finite, memory that ran out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from focus_detr.errors import FocusDetrError
from focus_detr.training.recipe import Recipe

if TYPE_CHECKING:
    from focus_detr.training.loop import TrainingLoop


@dataclass(frozen=True)
class MicroBatch:
    """What is remembered of a micro-batch until its step is done."""

    image_ids: list[int]
    loss: Tensor
    parts: dict[str, Tensor]


def not_finite(
    what: str,
    step: int,
    micro_batches: Sequence[MicroBatch],
    image_paths: Mapping[int, Path],
    saved: Path | None,
) -> str:
    """Which images and loss parts made ``what`` ("the loss", "the gradient") not finite; ``saved`` is the
    checkpoint of the weights before the step."""
    of_loss = what == "the loss"
    guilty = [each for each in micro_batches if not of_loss or not bool(each.loss.isfinite().all())]
    images = [
        f"{image_id} ({image_paths.get(image_id, 'path unknown')})"
        for each in guilty
        for image_id in each.image_ids
    ]
    values = [f"{name}={float(part):.6g}" for each in guilty for name, part in each.parts.items()]
    parts = f"; loss parts: {', '.join(values)}" if of_loss and values else ""
    kept = "The weights were not finite any more; earlier checkpoints are kept."
    if saved is not None:
        kept = f"The weights before this step are in {saved}."
    named = ", ".join(images) or "those of another process"
    return (
        f"{what} is not finite at step {step}; images: {named}{parts}. {kept} "
        f"Look at these images and their boxes, lower learning_rate, or use precision: fp32."
    )


@contextmanager
def memory_advice(recipe: Recipe, loop: TrainingLoop) -> Iterator[None]:
    """Where memory runs out within it, say what of the recipe to lower."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        ran_out = f"memory ran out on {loop.device} ({str(error).splitlines()[0]})"
        if loop.evaluating:
            raise FocusDetrError(
                f"{ran_out} in the evaluation after step {loop.state.step}. Lower eval_batch_size, now "
                f"{recipe.evaluated_together}, which changes no number: resume with "
                "--set eval_batch_size=1, say"
            ) from error
        raise FocusDetrError(
            f"{ran_out}. Lower what a step "
            f"needs: gradient_accumulation above {recipe.micro_batches} (the same batch in smaller "
            f"parts), batch_size below {recipe.batch_size}, gradient_checkpointing: true (now "
            f"{str(recipe.gradient_checkpointing).lower()}), precision: bf16 (now {recipe.precision}), "
            f"shortest_edge and longest_edge below {recipe.shortest_edge} and {recipe.longest_edge}"
        ) from error


def is_out_of_memory(error: RuntimeError) -> bool:
    words = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError) or "out of memory" in words or "not enough memory" in words
    )
