"""focus-detr models: the trained models that come with the package."""

import json as json_module

from focus_detr.cli.output import JsonFlag, print_json, say


def models(json: JsonFlag = False) -> None:
    """List the trained models that come with the package."""
    from focus_detr.zoo.resolve import list_models, resolve_model

    found = {
        name: json_module.loads((resolve_model(name) / "config.json").read_text()) for name in list_models()
    }
    classes = {name: list(config.get("id2label", {}).values()) for name, config in found.items()}
    if json:
        print_json([{"name": name, "classes": names} for name, names in classes.items()])
    elif not classes:
        say("This installation holds no trained model.")
    else:
        say("\n".join(f"{name}: {', '.join(names)}" for name, names in classes.items()))
