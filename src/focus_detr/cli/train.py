"""focus-detr train: fine-tune a model, or train one from a preset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from focus_detr.cli.options import DataArgument, DeviceOption, parse_settings
from focus_detr.cli.output import JsonFlag, print_json


def train(
    data: DataArgument,
    model: Annotated[
        str | None, typer.Option(help="Fine-tune this trained model: a bundled name, a folder or a hub id.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Train this configuration from new (see `focus-detr presets`).")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A recipe's name, or a YAML file of training options.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for checkpoints, logs and the trained model.")] = Path(
        "runs/train"
    ),
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe's option; repeatable."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in the output folder.")
    ] = False,
    device: DeviceOption = None,
    json: JsonFlag = False,
) -> None:
    """Train a detector on a data set, and write the trained model to a folder."""

    overrides = parse_settings(set_ or [])

    from focus_detr.training import train as run

    result = run(
        data,
        model=model,
        preset=preset,
        recipe=recipe,
        output=output,
        overrides=overrides,
        resume=resume,
        device=device,
    )
    if json:
        print_json(result)
