"""focus-detr explain: what a model looks at, and what a smaller budget would lose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from focus_detr.cli.choices import parse_thresholds, threshold_of
from focus_detr.cli.options import DeployOption, DeviceOption, ModelArgument, ThresholdOption, TrustOption
from focus_detr.cli.output import JsonFlag, note, print_json, say
from focus_detr.folders import writable_folder
from focus_detr.zoo.resolve import resolve_model


def explain(
    model: ModelArgument,
    source: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE|DATA",
            help="A picture or its URL; or a COCO, YOLO or Pascal VOC data set, or shards.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder for the page, the pictures and the numbers.")],
    split: Annotated[str, typer.Option(help="Of a data set, the split to look at.")] = "val",
    budget: Annotated[
        list[float] | None,
        typer.Option(
            help="Look at these beside the model's own, 0.05 to 1; repeatable. Nine when not given."
        ),
    ] = None,
    threshold: ThresholdOption = None,
    device: DeviceOption = None,
    deploy: DeployOption = False,
    trust_plugins: TrustOption = False,
    json: JsonFlag = False,
) -> None:
    """Show what a model looks at in a picture, or which objects of a data set each budget keeps.

    Of a picture: foreground scores, tokens of each encoder layer, where the decoder looked, what smaller
    budgets lose. Of a data set: the share of objects with a kept token, by size and class, and those first
    lost. explanation.html is one file that opens from disk, with a slider for the budget.
    """
    thresholds = parse_thresholds(threshold or [])
    output = writable_folder(output, "--output")
    folder = resolve_model(model)  # a wrong name is said before torch is loaded

    from focus_detr.explaining import explain as run
    from focus_detr.inference import Predictor

    predictor = Predictor.from_pretrained(folder, device=device, deploy=deploy, trust_plugins=trust_plugins)
    found = run(
        predictor,
        source,
        output,
        split=split,
        budgets=budget or None,
        threshold=threshold_of(thresholds, predictor.class_names),
        progress=not json,
    )
    print_json(found.to_dict()) if json else say(found.summary())
    note(f"page: {output / 'explanation.html'}")
