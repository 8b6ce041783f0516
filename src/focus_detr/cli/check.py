"""focus-detr check: what is wrong with a data set, before a training run finds out."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from focus_detr.cli.options import CrowdsOption, DataArgument
from focus_detr.cli.output import JsonFlag, print_json, say
from focus_detr.errors import FocusDetrError
from focus_detr.printable import percent


def check(
    data: DataArgument,
    split: Annotated[str | None, typer.Option(help="Look at this split only.")] = None,
    decode: Annotated[
        bool, typer.Option("--decode", help="Read every pixel: slower, and finds files cut short.")
    ] = False,
    crowds: CrowdsOption = "regions",
    masks: Annotated[
        bool, typer.Option("--masks", help="Read masks, too, as training for segmentation does.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Count a data set's images and objects, and list every problem in it.

    Exit code 1 means that there are errors among the problems; warnings alone give 0. A split that cannot be
    read at all ends with 2, after the report on the others.
    """
    from focus_detr.data import list_splits, load_dataset
    from focus_detr.data.cleaning import ImageCheck
    from focus_detr.data.coverage import box_coverage
    from focus_detr.data.dataset import DetectionDataset
    from focus_detr.data.suspicions import same_pictures, suspicions

    images: ImageCheck = "decode" if decode else "headers"
    datasets: dict[str, DetectionDataset] = {}
    refused: dict[str, FocusDetrError] = {}
    for name in [split] if split else list_splits(data):
        try:
            datasets[name] = load_dataset(
                data, name, on_problem="ignore", check_images=images, crowds=crowds, masks=masks
            )
        except FocusDetrError as error:
            refused[name] = error
    repeated = same_pictures(datasets)
    report: list[dict[str, Any]] = []
    for name, dataset in datasets.items():
        dataset.problems += [*suspicions(dataset), *repeated[name]]
        problems = [dataclasses.asdict(problem) for problem in dataset.problems]
        covered = box_coverage(dataset.records)
        counts = {"images": len(dataset), "objects": dataset.class_counts(), "covered": covered}
        report.append({"split": name, **counts, "problems": problems})
        if not json:
            share = [] if covered is None else [f"  Boxes cover {percent(covered)} of a picture on average."]
            say("\n".join([dataset.summary(), *share, *(f"  {problem}" for problem in dataset.problems)]))
    if json:
        print_json([*report, *({"split": name, "error": str(error)} for name, error in refused.items())])
    for refusal in refused.values():  # after what can be said of the others
        raise refusal
    if any(problem["severity"] == "error" for part in report for problem in part["problems"]):
        raise typer.Exit(1)
