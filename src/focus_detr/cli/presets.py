"""focus-detr presets: the model configurations known by name."""

from typing import Annotated

import typer

from focus_detr.cli.output import JsonFlag, print_json, say


def presets(
    name: Annotated[str | None, typer.Argument(help="Show this preset's whole configuration.")] = None,
    json: JsonFlag = False,
) -> None:
    """List the model configurations known by name, or show one."""
    from focus_detr.zoo.presets import list_presets, preset

    if name is not None and not json:
        import yaml

        fields = preset(name).to_dict()
        if len(fields["id2label"]) > 5:  # eighty placeholders say nothing
            del fields["id2label"], fields["label2id"]
        say(yaml.safe_dump(fields, sort_keys=False).rstrip())
    elif name is not None:
        print_json(preset(name).to_dict())
    elif json:
        print_json(list_presets())
    else:
        say("\n".join(list_presets()))
