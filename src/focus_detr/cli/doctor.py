"""focus-detr doctor: what is wrong with this machine, or with a data set, and what mends it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from focus_detr.cli.options import CrowdsOption, DeviceOption
from focus_detr.cli.output import JsonFlag, note, print_json, say
from focus_detr.errors import FocusDetrError
from focus_detr.folders import unused_folder


def doctor(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]",
            help="A COCO, YOLO or Pascal VOC data set: its folder, json or yaml. This machine if absent.",
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Look at this split only.")] = None,
    fix: Annotated[
        Path | None,
        typer.Option(help="Write a cleaned copy into this new folder, with a list of what was changed."),
    ] = None,
    device: DeviceOption = None,
    crowds: CrowdsOption = "regions",
    strict: Annotated[bool, typer.Option("--strict", help="Warnings, too, give exit code 1.")] = False,
    json: JsonFlag = False,
) -> None:
    """Examine this machine, or a data set: each finding with its severity, its file and its fix.

    Of a data set everything that `check` finds, and what takes reading every picture: those cut short, alike,
    in two splits; doubled boxes; rare classes; objects too small. The original is never changed. Exit code 1
    means that there are errors, 2 that a split cannot be read at all.
    """
    if data is None:
        _alone(split=split, fix=fix)
        _environment(device, strict, json)
        return
    if fix is not None:
        fix = unused_folder(fix, "--fix")
    from focus_detr.data.doctor import examine

    found = examine(data, split, crowds=crowds)
    changes = None
    if fix is not None:
        from focus_detr.data.doctor.fix import write_fixed

        changes = write_fixed(found, fix)
    if json:
        print_json({**found.to_dict(), **({"fixed": changes.to_dict()} if changes else {})})
    else:
        say(found.text())
    if changes is not None:
        note(f"cleaned copy: {fix}; what was changed: {fix}/CHANGES.txt")
    for refusal in found.refused.values():  # after what can be said of the others
        raise refusal
    _end(found.findings, strict)


def _alone(**options: Any) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise FocusDetrError(f"--{given[0]} is of a data set: give DATA, too")


def _environment(device: str | None, strict: bool, json: bool) -> None:
    from focus_detr.doctor import examine_environment

    found, problems = examine_environment(device)
    if json:
        print_json({"environment": found, "findings": [dataclasses.asdict(each) for each in problems]})
    else:
        lines = [f"{name}: {value}" for name, value in found.items() if name != "msda" and value is not None]
        lines += [
            f"deformable attention, {each['name']}: {each['reason']}{' (used)' if each['active'] else ''}"
            for each in found["msda"]
        ]
        say(
            "\n".join(
                [*lines, *(f"  {each}" for each in problems), "" if problems else "Nothing is missing."]
            )
        )
    _end(problems, strict)


def _end(findings: list[Any], strict: bool) -> None:
    grave = ("error", "warning") if strict else ("error",)
    if any(each.severity in grave for each in findings):
        raise typer.Exit(1)
