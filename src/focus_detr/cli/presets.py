"""focus-detr presets: the model configurations known by name."""

from typing import Annotated

import typer

from focus_detr.cli.options import parse_settings
from focus_detr.cli.output import JsonFlag, print_json, say
from focus_detr.errors import FocusDetrError


def presets(
    name: Annotated[str | None, typer.Argument(help="Show this preset's whole configuration.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a field of what is shown (token_policy=salience, backbone=resnet101); repeatable.",
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """List the model configurations known by name, or show one."""
    overrides = parse_settings(set_ or [])
    if overrides and name is None:
        raise FocusDetrError(
            "--set changes a preset that is shown: name one, as in focus-detr presets dino-r50"
        )

    from focus_detr.zoo.presets import list_presets, preset

    if name is not None and not json:
        import yaml

        fields = preset(name, **overrides).to_dict()
        if len(fields["id2label"]) > 5:  # eighty placeholders say nothing
            del fields["id2label"], fields["label2id"]
        say(yaml.safe_dump(fields, sort_keys=False).rstrip())
    elif name is not None:
        print_json(preset(name, **overrides).to_dict())
    elif json:
        print_json(list_presets())
    else:
        say("\n".join(list_presets()))
