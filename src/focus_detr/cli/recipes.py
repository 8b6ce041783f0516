"""focus-detr recipes: the training recipes known by name."""

from typing import Annotated

import typer

from focus_detr.cli.output import JsonFlag, print_json, say


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="Show this recipe, with every option it leaves at its default.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """List the training recipes known by name, or show one as YAML."""
    from focus_detr.training.recipe import list_recipes, load_recipe

    if name is not None:
        recipe = load_recipe(name)
        print_json(recipe.to_dict()) if json else say(recipe.to_yaml().rstrip())
    elif json:
        print_json(list_recipes())
    else:
        say("\n".join(list_recipes()))
