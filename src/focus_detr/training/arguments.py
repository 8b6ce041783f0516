"""A recipe as `transformers.TrainingArguments`."""

from __future__ import annotations

from pathlib import Path

from transformers.training_args import TrainingArguments

from focus_detr.errors import FocusDetrError
from focus_detr.training.recipe import Recipe


def training_arguments(recipe: Recipe, output: Path, use_cpu: bool = False) -> TrainingArguments:
    """Trainer's arguments for ``recipe``; creating them joins the process group under torchrun."""
    args = TrainingArguments(
        output_dir=str(output / "checkpoints"),
        num_train_epochs=recipe.epochs or 1,
        max_steps=recipe.max_steps or -1,
        gradient_accumulation_steps=recipe.gradient_accumulation,
        learning_rate=recipe.learning_rate,
        max_grad_norm=recipe.clip_gradient,
        bf16=recipe.precision == "bf16",
        fp16=recipe.precision == "fp16",
        logging_steps=recipe.log_steps,
        logging_nan_inf_filter=False,
        save_strategy="no",
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        seed=recipe.seed,
        use_cpu=use_cpu,
        ddp_find_unused_parameters=False,
    )
    # Several GPUs in one process would be torch's DataParallel; more processes are the way to use them.
    if args.n_gpu > 1:
        args._n_gpu = 1
    micro_batch, rest = divmod(recipe.batch_size // recipe.gradient_accumulation, args.world_size)
    if rest or not micro_batch:
        raise FocusDetrError(
            f"batch_size={recipe.batch_size} in {recipe.gradient_accumulation} micro-batches cannot be "
            f"shared by {args.world_size} processes; take a multiple of "
            f"{recipe.gradient_accumulation * args.world_size}"
        )
    args.per_device_train_batch_size = micro_batch
    return args
