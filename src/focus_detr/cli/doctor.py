"""focus-detr doctor: what is wrong with this machine, or with a data set, and what mends it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from focus_detr.cli.options import CrowdsOption, DeviceOption, TrustOption, parse_size
from focus_detr.cli.output import JsonFlag, note, print_json, say
from focus_detr.errors import FocusDetrError
from focus_detr.folders import unused_folder, writable_folder


def doctor(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]",
            help="A COCO, YOLO or Pascal VOC data set, or shards: folder or file. This machine if absent.",
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Look at this split only.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write the page with pictures and plots here: one file, .html.")
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(help="Write a cleaned copy into this new folder, with a list of what was changed."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HEIGHTxWIDTH",
            help="Tell which objects are too small for tokens where pictures are fitted into this size.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Ask this trained model, too: labels it disagrees with, and objects that its budgets lose.",
        ),
    ] = None,
    device: DeviceOption = None,
    crowds: CrowdsOption = "regions",
    trust_plugins: TrustOption = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings, too, give exit code 1.")] = False,
    json: JsonFlag = False,
) -> None:
    """Examine this machine, or a data set: each finding with its severity, its file and its fix.

    Of a data set everything that `check` finds, and what takes reading every picture: those cut short, alike,
    in two splits; doubled boxes; rare classes. The original is never changed. Exit code 1
    means that there are errors, 2 that a split cannot be read at all.
    """
    if data is None:
        _alone(split=split, report=report, fix=fix, size=size, model=model)
        _environment(device, strict, json)
        return
    wanted = parse_size(size) if size else None
    if fix is not None:
        fix = unused_folder(fix, "--fix")
    if report is not None:
        _check_report(report)
    predictor = None
    if model is not None:
        from focus_detr.zoo.resolve import resolve_model

        place = resolve_model(model)  # a wrong name is said before torch is loaded

        from focus_detr.inference import Predictor

        predictor = Predictor.from_pretrained(place, device=device, trust_plugins=trust_plugins)

    from focus_detr.doctor import examine_data

    found = examine_data(data, split, crowds=crowds, size=wanted, predictor=predictor, progress=not json)
    changes = None
    if fix is not None:
        from focus_detr.data.doctor.fix import write_fixed

        changes = write_fixed(found, fix)
    if report is not None:
        from focus_detr.doctor import doctor_html
        from focus_detr.folders import whole_file

        report.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(report) as stream:
            stream.write(doctor_html(found).encode())
    if json:
        print_json({**found.to_dict(), **({"fixed": changes.to_dict()} if changes else {})})
    else:
        say(found.text())
    if report is not None:
        note(f"page: {report}")
    if changes is not None:
        note(f"cleaned copy: {fix}; what was changed: {fix}/CHANGES.txt")
    for refusal in found.refused.values():  # after what can be said of the others
        raise refusal
    _end(found.findings, strict)


def _alone(**options: Any) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise FocusDetrError(f"--{given[0]} is of a data set: give DATA, too")


def _check_report(report: Path) -> None:
    writable_folder(report.parent, "--report")
    if report.suffix.lower() not in (".html", ".htm") or report.is_dir():
        raise FocusDetrError(f"--report {report}: must be a file that ends in .html")


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
