"""focus-detr compare: whether one model is better than another, as far as the pictures can tell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from focus_detr.cli.output import JsonFlag, print_json, say


def compare(
    a: Annotated[
        list[Path],
        typer.Option(
            "--a", metavar="FOLDER", help="What `evaluate --output` wrote of one model; repeatable."
        ),
    ],
    b: Annotated[
        list[Path],
        typer.Option(
            "--b", metavar="FOLDER", help="Of the other; as often as --a, a seed's beside that seed's."
        ),
    ],
    draws: Annotated[
        int, typer.Option(help="How often the pictures are drawn anew, with repetition.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    json: JsonFlag = False,
) -> None:
    """Difference of average precision, b minus a, with its 95 % interval.

    By a paired bootstrap over the pictures, and over the runs where there are several a side. All must be of
    the same split of the same data.
    """
    from focus_detr.evaluation.comparison import compare as run
    from focus_detr.evaluation.comparison import read_evaluated

    sides = [[read_evaluated(folder) for folder in side] for side in (a, b)]
    found = run(*sides, draws=draws, seed=seed)
    print_json(found.to_dict()) if json else say(found.summary())
