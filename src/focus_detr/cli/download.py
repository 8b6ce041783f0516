"""focus-detr download: get published models before they are needed."""

from __future__ import annotations

from typing import Annotated

import typer

from focus_detr.cli.output import JsonFlag, note, print_json, say
from focus_detr.errors import FocusDetrError


def download(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Names that `focus-detr models` lists.")
    ],
    json: JsonFlag = False,
) -> None:
    """Download published models, convert them and keep them in the cache, for use without a connection.

    Each is checked against the checksum that was published, or else against that of its first download.
    FOCUS_DETR_CACHE names another folder than the platform's for caches. A file that cannot be downloaded may
    be put by hand where the error says; the same command then goes on with it.
    """
    from focus_detr.zoo.fetching import fetch
    from focus_detr.zoo.published import find_published
    from focus_detr.zoo.resolve import list_models, resolve_model

    bundled = list_models()
    # A wrong name is said before the first download.
    wanted = [name if name in bundled else find_published(name) for name in dict.fromkeys(names)]
    folders, problems = {}, []
    for each in wanted:
        try:
            if isinstance(each, str):
                folders[each] = resolve_model(each)
            else:
                folders[each.name] = fetch(each)
        except FocusDetrError as error:
            problems.append(str(error))
            if len(wanted) > 1:
                note(f"error: {error}")
        else:
            name = each if isinstance(each, str) else each.name
            if not json:
                say(f"{name}: {folders[name]}")
    if json:
        print_json([{"name": name, "folder": str(folder)} for name, folder in folders.items()])
    if len(wanted) > 1 and problems:
        raise FocusDetrError(f"{len(problems)} of {len(wanted)} models could not be had")
    if problems:
        raise FocusDetrError(problems[0])
