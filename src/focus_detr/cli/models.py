"""focus-detr models: the trained models that a name stands for."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from focus_detr.cli.output import JsonFlag, print_json, say


def models(
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="List only names with this in them.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """List the trained models known by name: those in the package, and those that others published.

    AP is as measured by this package for those in it, on the data named, and as published for the others, on
    COCO val2017.
    """
    from focus_detr.zoo.listing import list_known

    known = [each for each in list_known() if text is None or text in each["name"]]
    if json:
        print_json(known)
    elif not known:
        say(f"No model's name has {text!r} in it." if text else "No model is known.")
    else:
        say(_page(known))


def _page(known: list[dict[str, Any]]) -> str:
    from focus_detr.evaluation.tables import table

    columns = ("name", "ap", "epochs", "megabytes", "licence", "data")
    rows = [[*(each[key] for key in columns), _here(each)] for each in known]
    lines = [table(("name", "AP", "epochs", "MB", "licence", "data", "here"), rows), ""]
    if any(each["here"] == "no" for each in known):
        lines.append(
            "`focus-detr download NAME` gets one that is not here; so does the first use of its name."
        )
    untried = sum(not each["real_file"] for each in known)
    if untried:
        lines.append(
            f"{untried} of these have never been run with their real file by this package: evaluate before "
            "you rely on the AP, which is their authors'."
        )
    for key, words in (("note", ""), ("unusable", "cannot be used: ")):
        lines += [f"{', '.join(names)}: {words}{why}." for why, names in _by_reason(known, key).items()]
    return "\n".join(lines)


def _here(each: dict[str, Any]) -> str:
    return "unusable" if each["unusable"] else str(each["here"])


def _by_reason(known: list[dict[str, Any]], key: str) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for each in known:
        if each[key]:
            reasons.setdefault(each[key], []).append(each["name"])
    return reasons
