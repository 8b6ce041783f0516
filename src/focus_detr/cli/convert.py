"""focus-detr convert: a checkpoint of another code base to a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from focus_detr.cli.output import JsonFlag, print_json


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="The released checkpoint (.pth).")],
    output: Annotated[Path, typer.Option(help="Folder for the converted model.")],
    temperature: Annotated[float | None, typer.Option(help="Temperature of the position encoding.")] = None,
    offset: Annotated[float | None, typer.Option(help="Offset of the position encoding.")] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Text file with a class name a line; COCO's when absent.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Turn a released Focus-DETR or DINO checkpoint into a model folder."""
    from focus_detr.convert import convert_checkpoint

    report = convert_checkpoint(checkpoint, output, temperature=temperature, offset=offset, classes=classes)
    if json:
        print_json(report)
