"""focus-detr predict: find objects in pictures; draw, count and write them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from focus_detr.cli.options import DeployOption, DeviceOption, ModelArgument, split_names
from focus_detr.cli.output import JsonFlag, note, print_json
from focus_detr.cli.pictures import Pictures, keep_sources
from focus_detr.errors import FocusDetrError
from focus_detr.folders import writable_folder
from focus_detr.pretrained import resolve_model

if TYPE_CHECKING:
    from focus_detr.inference import BadImage, Detections

_FORMATS = ("coco", "csv", "json")


def predict(
    model: ModelArgument,
    sources: Annotated[
        list[str], typer.Argument(metavar="IMAGE", help="Files, folders, glob patterns or URLs.")
    ],
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Lowest score reported; the model's own when not given."),
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Only these classes, by name: a,b,c")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures computed at once.")] = 4,
    output: Annotated[
        Path | None, typer.Option(help="Folder for annotated pictures and result files.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="Result files in the output folder, separated by commas: coco, csv, json. Default: coco,csv"
        ),
    ] = None,
    images: Annotated[bool, typer.Option(help="Write annotated pictures to the output folder.")] = True,
    heatmap: Annotated[
        bool, typer.Option("--heatmap", help="Write pictures of where the model looked, too.")
    ] = False,
    device: DeviceOption = None,
    deploy: DeployOption = False,
    json: JsonFlag = False,
) -> None:
    """Find objects in pictures; draw and count them.

    A picture that cannot be read is reported and passed over; exit code 1 means that none could be read.
    """
    formats = _parse_formats(format or "coco,csv")
    for option, given in (("--heatmap", heatmap), ("--format", format)):
        if given and output is None:
            raise FocusDetrError(f"{option}: needs a folder to write to; add --output DIR")
    if output is not None:
        writable_folder(output, "--output")
        if images or heatmap:
            keep_sources(sources, output)

    folder = resolve_model(model)  # a wrong name is said before torch is loaded

    from focus_detr.inference import Detections, Predictor

    predictor = Predictor.from_pretrained(folder, device=device, deploy=deploy)
    stream = predictor.predict(
        sources,
        threshold=threshold,
        classes=split_names(classes),
        batch_size=batch_size,
        progress=not json,
        keep_images=output is not None and (images or heatmap),
    )
    pictures = Pictures(output, predictor, images, heatmap) if output is not None else None
    results: list[Detections | BadImage] = []
    for result in stream:
        if pictures is not None and isinstance(result, Detections):
            pictures.write(result)
            result = dataclasses.replace(result, image=None)  # thousands of images do not fit into memory
        results.append(result)

    if output is not None:
        category_ids = getattr(getattr(predictor.model, "config", None), "category_ids", None)
        _write_files(results, output, formats, category_ids)
    if json:
        print_json([result.to_dict() for result in results])
    else:
        _print_summary(results, output)
    if not any(isinstance(result, Detections) for result in results):
        raise typer.Exit(1)


def _parse_formats(text: str) -> list[str]:
    formats = split_names(text) or []
    for name in formats:
        if name not in _FORMATS:
            raise FocusDetrError(f"--format {name!r}: not known; use any of {','.join(_FORMATS)}")
    return formats


def _write_files(
    results: list[Detections | BadImage], output: Path, formats: list[str], category_ids: list[int] | None
) -> None:
    from focus_detr.inference import write_coco, write_csv, write_jsonl

    output.mkdir(parents=True, exist_ok=True)
    if "coco" in formats:
        write_coco(results, output / "detections.coco.json", category_ids)
    if "csv" in formats:
        write_csv(results, output / "detections.csv")
    if "json" in formats:
        write_jsonl(results, output / "detections.jsonl")


def _print_summary(results: list[Detections | BadImage], output: Path | None) -> None:
    from focus_detr.evaluation.tables import table
    from focus_detr.inference import Detections

    good = [result for result in results if isinstance(result, Detections)]
    objects: Counter[str] = Counter()
    seen_in: Counter[str] = Counter()
    for detections in good:
        objects.update(detections.counts())
        seen_in.update(detections.counts().keys())
    rows = [(name, count, seen_in[name]) for name, count in objects.most_common()]
    typer.echo(table(("class", "objects", "images"), [*rows, ("all", objects.total(), len(good))]))
    if len(good) < len(results):
        note(f"{len(results) - len(good)} of {len(results)} images could not be read and were passed over.")
    if output is not None:
        typer.echo(f"Written to {output}")
