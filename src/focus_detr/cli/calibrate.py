"""focus-detr calibrate: the smallest budget that costs no more accuracy than is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from focus_detr.cli.options import DataArgument, DeviceOption, ModelArgument, TrustOption
from focus_detr.cli.output import JsonFlag, note, print_json, say
from focus_detr.errors import FocusDetrError
from focus_detr.folders import writable_folder


def calibrate(
    model: ModelArgument,
    data: DataArgument,
    split: Annotated[str, typer.Option(help="The split to measure on: not the one you report on.")] = "val",
    max_drop: Annotated[
        float, typer.Option(help="How much lower AP may be than at the best budget, of 1.")
    ] = 0.003,
    budget: Annotated[list[float] | None, typer.Option(help="Try these only, and 1; repeatable.")] = None,
    auto: Annotated[
        bool,
        typer.Option("--auto", help="Also find the rule that --budget auto goes by, picture by picture."),
    ] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also find how much less single layers need than their budget.")
    ] = False,
    levels: Annotated[bool, typer.Option("--levels", help="And single levels, which takes longer.")] = False,
    frontier: Annotated[
        bool,
        typer.Option(
            "--frontier",
            help="AP and time over resolution, budget and decoder layers instead; the model then has the "
            "settings best, balanced and fast (--setting).",
        ),
    ] = False,
    scale: Annotated[
        list[float] | None,
        typer.Option(help="With --frontier, resolutions as shares of the model's own; repeatable."),
    ] = None,
    decoder_layers: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="With --frontier, decoder layers that are run; repeatable."),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="With --frontier, passes timed of each point.")] = 5,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the model with its budget, the table and its picture.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images computed at once.")] = 4,
    device: DeviceOption = None,
    trust_plugins: TrustOption = False,
    json: JsonFlag = False,
) -> None:
    """Find the smallest budget of tokens whose average precision is near the best one's.

    With --output, a copy of the model is written that works at this budget unless a call says otherwise; with
    --auto it also knows what `--budget auto` is to go by, with --layers or --levels it has shares of its own.

    With --frontier, the points that no other beats in both accuracy and time are found on this machine, which
    should do nothing else.
    """
    if output is not None:
        output = writable_folder(output, "--output")

    for option, given in (("--auto", auto), ("--layers", layers), ("--levels", levels)):
        if given and frontier:
            raise FocusDetrError(f"{option}, --frontier: are two questions; ask one after the other")
    for option, values in (("--scale", scale), ("--decoder-layers", decoder_layers)):
        if values and not frontier:
            raise FocusDetrError(f"{option}: is of the frontier; add --frontier")

    from focus_detr.api import FocusDetr
    from focus_detr.evaluation.calibration import BUDGETS
    from focus_detr.evaluation.calibration import calibrate as run

    detector = FocusDetr(model, device=device, trust_plugins=trust_plugins)
    if frontier:
        from focus_detr.benchmarking.frontiers import SCALES
        from focus_detr.benchmarking.frontiers import frontier as explore

        points = explore(
            detector.predictor,
            data,
            split=split,
            scales=scale or SCALES,
            budgets=budget or (),
            decoder_layers=decoder_layers or (),
            max_drop=max_drop,
            runs=runs,
            batch_size=batch_size,
            progress=not json,
        )
        print_json(points.to_dict()) if json else say(points.summary())
        if output is not None:
            new = {name: each.to_dict() for name, each in points.settings.items()}
            explored: Any = detector.predictor.model
            explored.config.settings = {**explored.config.settings, **new}
            points.save(detector.save(output))
            note(f"model: {output}")
        return
    found = run(
        detector.predictor,
        data,
        split=split,
        max_drop=max_drop,
        budgets=budget or BUDGETS,
        auto=auto,
        layers=layers,
        levels=levels,
        batch_size=batch_size,
        progress=not json,
    )
    print_json(found.to_dict()) if json else say(found.summary())
    if output is not None:
        model_itself: Any = detector.predictor.model
        detector.set_budget(found.budget if found.shares is None else None)
        if found.shares is not None:
            config = model_itself.config
            config.policy_options = {**config.policy_options, **found.shares.options}
        if found.auto is not None and found.auto.rule is not None:
            model_itself.config.auto_budget = found.auto.rule.to_dict()
        found.save(detector.save(output))
        note(f"model: {output}")
