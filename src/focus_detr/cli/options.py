"""Options that several verbs share, and the parsing of `--set key=value`."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from focus_detr.errors import FocusDetrError

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A bundled or published name (see `focus-detr models`), a folder or a hub id."
    ),
]
DataArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="A COCO, YOLO or Pascal VOC data set, or shards: its folder, json, yaml or tar file.",
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, mps ...; the best one there is when not given.")
]
DeployOption = Annotated[
    bool, typer.Option("--deploy", help="Bring the model into the form that infers fastest, first.")
]

ThresholdOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SCORE|CLASS=SCORE",
        help="Lowest score reported, 0 to 1, of all classes or of one; may be given several times, or with "
        "commas. The model's own when not given.",
    ),
]

TileOption = Annotated[
    str | None,
    typer.Option(
        metavar="PIXELS|auto",
        help="Look at large pictures in overlapping tiles of so many pixels a side, and in larger "
        "ones at smaller scales; auto: of the size that the model sees.",
    ),
]
OverlapOption = Annotated[
    float | None,
    typer.Option(help="Share of a tile's side in common with the next, 0 to 0.75.  [default: 0.2]"),
]

BudgetOption = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE|auto",
        help="Mean share of tokens that an encoder layer works on, 0.05 to 1; auto chooses one for each "
        "picture, by the rule of `calibrate --auto`. The model's own when not given.",
    ),
]

DecoderLayersOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Run the first N decoder layers alone; each has heads of its own. What the model is set to "
        "when not given, or all.",
    ),
]

DeadlineOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="As in 50ms: take the largest budget that meets it on this machine; --budget says the most, in "
        "place of what the model was trained for.",
    ),
]

CrowdsOption = Annotated[
    str,
    typer.Option(
        help="What COCO's iscrowd 1 marks: regions of many objects, neither learned nor scored, or objects "
        "like others.",
        metavar="regions|objects",
    ),
]

ClassesOption = Annotated[
    str | None,
    typer.Option(
        help="Only these classes, by name: a,b,c. With a=x, class a is taken for x; several of one name are "
        "merged."
    ),
]

SettingOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Resolution, budget and decoder layers that the model has under a name (see `calibrate "
        "--frontier`); what is said beside it goes before.",
    ),
]

TrustOption = Annotated[
    bool,
    typer.Option("--trust-plugins", help="Import the modules that the model names, which runs their code."),
]


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """`["a=1", "b=[2, 3]", "c=text"]` to a dictionary; values are read as YAML, as in a recipe."""
    import yaml

    from focus_detr.plain_yaml import load_plain

    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            raise FocusDetrError(f"--set {pair!r}: must be key=value, as in --set epochs=20")
        other = next((other for other in settings if clash(key, other)), None)
        if other is not None:
            both = "twice" if other == key else f"and {other!r}, which it is a part of or holds"
            raise FocusDetrError(f"--set {pair!r}: {key!r} is set {both}; leave one out")
        try:
            settings[key] = load_plain(value)
        except yaml.YAMLError as error:
            raise FocusDetrError(f"--set {pair!r}: the value is not YAML ({error})") from error
    return settings


def clash(key: str, other: str) -> bool:
    """Whether two settings are one, or one lies inside the other (`model` and `model.num_queries`)."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


def parse_size(text: str) -> tuple[int, int]:
    """`"800x1066"` to (height, width), of no more pixels than a picture may have."""
    from focus_detr.images.reading import MAX_PIXELS

    found = re.fullmatch(r"([0-9]{1,9})[xX]([0-9]{1,9})", text.strip())
    if found is None:
        raise FocusDetrError(f"--size {text!r}: must be HEIGHTxWIDTH in pixels, as in 480x640")
    height, width = int(found[1]), int(found[2])
    if height * width > MAX_PIXELS:
        raise FocusDetrError(f"--size {text!r}: more than {MAX_PIXELS / 1e6:.0f} megapixels; give less")
    return height, width


def parse_tile(text: str | None) -> int | str | None:
    """`"1024"` to pixels; "auto" and None stay as they are, and what is neither is refused later."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,9}", text) else text


def parse_budget(text: str | None, word: str = "auto") -> float | str | None:
    """`"0.3"` to the number; None and the ``word`` stay as they are."""
    if text is None or text.strip() == word:
        return None if text is None else word
    try:
        budget = float(text)
    except ValueError:
        budget = math.nan
    if not math.isfinite(budget):
        raise FocusDetrError(f"--budget {text!r}: must be a finite number, 0.05 to 1, or {word}")
    return budget


def split_names(text: str | None) -> list[str] | None:
    """`"a, b"` to `["a", "b"]`; None stays None."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
