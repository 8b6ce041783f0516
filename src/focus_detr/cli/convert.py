"""focus-detr convert: a checkpoint of another code base to a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from focus_detr.cli.options import parse_settings
from focus_detr.cli.output import JsonFlag, print_json, say


def convert(
    checkpoint: Annotated[
        Path, typer.Argument(help="A released .pth file, the .zip that holds it, or a transformers folder.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for the converted model.")],
    temperature: Annotated[
        float | None,
        typer.Option(help="Temperature of the position encoding, which checkpoints do not hold."),
    ] = None,
    offset: Annotated[float | None, typer.Option(help="Offset of the position encoding, likewise.")] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Text file, a class name a line; COCO's where there are 80 classes.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="The backbone expected; an error if it is another.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="An option of the token policy that checkpoints do not hold, as in --set high_levels=2.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model in the folder.")] = False,
    json: JsonFlag = False,
) -> None:
    """Turn a checkpoint of Focus-DETR or one of its relatives into a model folder.

    Known are Focus-DETR and DN-Deformable-DETR (detrex), DINO (detrex, original), Deformable DETR (detrex,
    original, transformers), Sparse DETR, Lite-DETR on DINO, Salience-DETR, DETR and PnP-DETR (original).

    The position encoding of detrex's 24 and 36 epoch ResNet models needs --temperature 20 --offset 0; the
    defaults suit all the others. Lite-DETR's H2L2 needs --set high_levels=2.
    """
    from focus_detr.convert import convert_checkpoint

    report = convert_checkpoint(
        checkpoint,
        output,
        backbone=backbone,
        temperature=temperature,
        offset=offset,
        class_names=classes,
        policy_options=parse_settings(set_ or []),
        overwrite=overwrite,
    )
    if json:
        print_json(report.to_dict())
    else:
        say(str(report))
