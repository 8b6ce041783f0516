"""focus-detr train: fine-tune a model, or train one from new."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from focus_detr.cli.choices import parse_thresholds, renaming_of, thresholds_kept
from focus_detr.cli.options import ClassesOption, DataArgument, TrustOption, clash, parse_settings
from focus_detr.cli.output import JsonFlag, print_json, say
from focus_detr.errors import FocusDetrError


def train(
    data: DataArgument,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "--preset",
            help="What to start from: a trained model to fine-tune (bundled or published name, folder, hub "
            "id), or a preset (see `focus-detr presets`) to train from new. If absent: everyday, which knows "
            "COCO's 80 classes, or a resumed run's own.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Name (see `focus-detr recipes`) or YAML file; the one meant for the model if absent."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the run; runs/<preset> or runs/<recipe> when not given, whichever was named."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="detect (boxes), segment (masks, too: DATA with polygons or run lengths), or any-budget, or "
            "another task of plugins. segment goes with all of them: --task segment --set task=any-budget."
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="A trained model to learn from beside the labels: a larger or dense one of the family, say, "
            "or an ONNX file of YOLOX or PicoDet. "
            "What of its answers counts how much is the recipe's teacher (--set teacher.features=1).",
        ),
    ] = None,
    eight_bits: Annotated[
        bool,
        typer.Option(
            "--eight-bits",
            help="Train for INT8: the layers that it computes are rounded as it rounds, so that `export "
            "--precision int8` of the model loses less. From a trained model, few epochs at a low rate.",
        ),
    ] = False,
    unlabelled: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Pictures without labels to learn from, too: the moving average of the weights labels them.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a field of the recipe, or of the model (model.token_policy=salience); repeatable.",
        ),
    ] = None,
    eval_data: Annotated[
        Path | None, typer.Option(help="Data set to evaluate on, where it is not a split of DATA.")
    ] = None,
    val_share: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Hold back this share of the images to evaluate on, 0.15 say, where DATA has no split for "
            "it.",
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Budget of training, 20m, 1h30m or 90s: some steps are measured on this machine, and the "
            "recipe's length is fitted to it.",
        ),
    ] = None,
    classes: ClassesOption = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCORE|CLASS=SCORE",
            help="Lowest score that the model reports where nobody says another, 0 to 1, of all classes or "
            "of one, as in predict. It is kept with the model, and changes nothing in training.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder from its last checkpoint.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps; the fastest when not given.")] = None,
    trust_plugins: TrustOption = False,
    json: JsonFlag = False,
) -> None:
    """Train a detector on a data set; the folder of the run holds the best and the last model."""
    share = [] if val_share is None else [f"val_share={val_share}"]
    overrides = parse_settings([*(set_ or []), *share])
    if classes is not None:
        if "classes" in overrides:
            raise FocusDetrError("--classes, --set classes: say the same; leave out one")
        overrides["classes"] = renaming_of(classes)
    kept = thresholds_kept(parse_thresholds(threshold or []))
    if said := [key for key in overrides for name in kept if clash(key, name)]:
        raise FocusDetrError(f"--threshold, --set {said[0]}: say the same; leave out one")
    overrides |= kept
    if eight_bits:
        overrides.setdefault("eight_bits.on", True)

    from focus_detr.evaluation.tables import table
    from focus_detr.training import train as run
    from focus_detr.training.processes import is_first

    result = run(
        data,
        model=model,
        recipe=recipe,
        output=output,
        overrides=overrides,
        eval_data=eval_data,
        resume=resume,
        device=device,
        trust_plugins=trust_plugins,
        time=time,
        task=task,
        teacher=teacher,
        unlabelled=unlabelled,
    )
    if not is_first():
        return  # one of several processes says what all of them did
    if json:
        print_json(
            {"output": result.output, "model": result.model, "steps": result.steps, "metrics": result.metrics}
        )
        return
    if result.metrics:
        say(table(("metric", "best"), list(result.metrics.items())))
    say(f"{result.steps} steps; the model to use is {result.model}")
