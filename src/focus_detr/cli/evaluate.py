"""focus-detr evaluate: how good a model is on a labelled data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from focus_detr.cli.choices import classes_of, parse_thresholds, threshold_of
from focus_detr.cli.options import (
    BudgetOption,
    ClassesOption,
    CrowdsOption,
    DataArgument,
    DecoderLayersOption,
    DeployOption,
    DeviceOption,
    ModelArgument,
    OverlapOption,
    SettingOption,
    ThresholdOption,
    TileOption,
    TrustOption,
    parse_budget,
    parse_tile,
)
from focus_detr.cli.output import JsonFlag, print_json, say
from focus_detr.folders import writable_folder
from focus_detr.zoo.resolve import resolve_model


def evaluate(
    model: ModelArgument,
    data: DataArgument,
    split: Annotated[str, typer.Option(help="The split to measure on.")] = "test",
    output: Annotated[
        Path | None, typer.Option(help="Folder for the report, its figures and its tables.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images computed at once.")] = 4,
    budget: BudgetOption = None,
    decoder_layers: DecoderLayersOption = None,
    setting: SettingOption = None,
    tile: TileOption = None,
    overlap: OverlapOption = None,
    threshold: ThresholdOption = None,
    classes: ClassesOption = None,
    device: DeviceOption = None,
    deploy: DeployOption = False,
    crowds: CrowdsOption = "regions",
    trust_plugins: TrustOption = False,
    json: JsonFlag = False,
) -> None:
    """Measure average precision, per class and by size, and what the token selection keeps."""
    if output is not None:
        writable_folder(output, "--output")
    share, thresholds = parse_budget(budget), parse_thresholds(threshold or [])
    folder = resolve_model(model)  # a wrong name is said before torch is loaded

    from focus_detr.evaluation import evaluate as run
    from focus_detr.inference import Predictor

    predictor = Predictor.from_pretrained(folder, device=device, deploy=deploy, trust_plugins=trust_plugins)
    report = run(
        predictor,
        data,
        split=split,
        output=output,
        batch_size=batch_size,
        budget=share,
        decoder_layers=decoder_layers,
        setting=setting,
        tile=parse_tile(tile),
        overlap=overlap,
        threshold=threshold_of(thresholds, predictor.class_names),
        classes=classes_of(classes, predictor.class_names),
        device=device,
        progress=not json,
        crowds=crowds,
    )
    print_json(report.to_dict()) if json else say(report.summary())
