"""focus-detr data: data sets into others. What is read is written anew; the originals are never changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from focus_detr.cli.options import CrowdsOption, DataArgument
from focus_detr.cli.output import JsonFlag, note, print_json, say
from focus_detr.cli.strict import StrictCommand
from focus_detr.folders import unused_folder
from focus_detr.printable import counted

if TYPE_CHECKING:
    from focus_detr.data.writing import Changes

data = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Divide, convert and merge data sets.")

OutputOption = Annotated[Path, typer.Option(help="New folder for the data set, and its list of changes.")]
FormatOption = Annotated[
    str | None,
    typer.Option("--to", metavar="coco|yolo|voc|shards", help="Format; that of the original when not given."),
]


@data.command(cls=StrictCommand)
def split(
    data: DataArgument,
    output: OutputOption,
    val: Annotated[float, typer.Option(help="Share of the pictures for val, 0 for none.")] = 0.2,
    test: Annotated[float, typer.Option(help="Share of the pictures for test, 0 for none.")] = 0.0,
    split: Annotated[
        str | None,
        typer.Option(help="The split to divide, or several as one: a+b; the only one when not given."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another number, another chance.")] = 0,
    to: FormatOption = None,
    crowds: CrowdsOption = "regions",
    json: JsonFlag = False,
) -> None:
    """Divide a data set into train, val and test.

    Each class has its share in each split, and pictures that look alike stay together: what is measured on
    was not learned.
    """
    output = unused_folder(output, "--output")

    from focus_detr.data.restructuring import split_dataset

    shares = {name: share for name, share in (("val", val), ("test", test)) if share}
    changes = split_dataset(data, output, shares, split=split, seed=seed, format=to, crowds=crowds)
    _tell(changes, output, json)


@data.command(cls=StrictCommand)
def convert(
    data: DataArgument,
    output: OutputOption,
    to: Annotated[str, typer.Option("--to", metavar="coco|yolo|voc|shards", help="Format to write.")],
    split: Annotated[str | None, typer.Option(help="This split only.")] = None,
    shard_images: Annotated[
        int | None, typer.Option(metavar="N", help="Of shards: pictures in each; 1000 when not given.")
    ] = None,
    crowds: CrowdsOption = "regions",
    json: JsonFlag = False,
) -> None:
    """Write a data set as COCO, YOLO, Pascal VOC or shards (tar files as of WebDataset, for large ones).

    What the format could not hold is said.
    """
    output = unused_folder(output, "--output")

    from focus_detr.data.restructuring import convert_dataset

    changes = convert_dataset(data, output, to, split=split, crowds=crowds, shard_images=shard_images)
    _tell(changes, output, json)


@data.command(cls=StrictCommand)
def merge(
    sources: Annotated[
        list[Path], typer.Argument(metavar="DATA...", help="Two data sets or more, of any formats.")
    ],
    output: OutputOption,
    to: FormatOption = None,
    crowds: CrowdsOption = "regions",
    json: JsonFlag = False,
) -> None:
    """Write several data sets as one: splits and classes by name, ids and file names without clashes."""
    output = unused_folder(output, "--output")

    from focus_detr.data.restructuring import merge_datasets

    _tell(merge_datasets(sources, output, to, crowds=crowds), output, json)


def _tell(changes: Changes, output: Path, json: bool) -> None:
    if json:
        print_json({"output": str(output), **changes.to_dict()})
    else:
        written = [
            f"{split}: {counted(count, 'picture')}, {counted(changes.objects[split], 'object')}"
            for split, count in changes.pictures.items()
        ]
        said = (
            ("left out", changes.left_out),
            ("changed", changes.changed),
            ("not held", changes.losses),
            ("renamed", [f"{old} is now {new}" for old, new in changes.renamed.items()]),
        )
        for what, lines in said:
            written += [f"  {what}: {line}" for line in lines[:3]]
            written += [f"    ... and {len(lines) - 3} more"] if len(lines) > 3 else []
        say("\n".join(written))
    note(f"list of changes: {output}/CHANGES.txt")
