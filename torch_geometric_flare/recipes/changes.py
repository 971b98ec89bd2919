"""Other values of a recipe's fields or of its model's arguments."""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from inspect import signature
from typing import Any

from torch_geometric_flare.recipes.recipe import Recipe, Value

# The budget of a run, which has options of its own, and what is no plain value.
_FIXED = ("model_class", "model", "epochs", "max_steps")
# What the data decide.
_CHANNELS = ("in_channels", "out_channels")


def recipe_options(recipe: Recipe) -> list[str]:
    """Return the names that `change_recipe` takes.

    Args:
        recipe: A recipe of the model.
    """
    arguments = set(signature(recipe.model_class).parameters)
    return sorted((_own_fields() | arguments) - {*_FIXED, *_CHANNELS})


def change_recipe(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return a recipe with other values.

    Args:
        recipe: The recipe.
        changes: Values by name, of fields of the recipe, such as `learning_rate`, or of
            arguments of its model, such as `num_latents`.

    Raises:
        ValueError: If there is no such option, or its value is wrong.

    Examples:
        >>> recipe = Recipe(model_class=FLARE, model={"hidden_channels": 32})
        >>> changed = change_recipe(recipe, {"num_latents": 16, "learning_rate": 2e-3})
        >>> changed.build(in_channels=3, out_channels=1)
        FLARE(3, 32, 1, num_layers=8, heads=8, num_latents=16)
    """
    options = recipe_options(recipe)
    for name in changes:
        if name not in options:
            raise ValueError(
                f"{recipe.model_class.__name__} has no option {name!r}; it has: "
                f"{', '.join(options)}"
            )
    own = {name: value for name, value in changes.items() if name in _own_fields()}
    model = {name: value for name, value in changes.items() if name not in own}
    try:
        return replace(recipe, model={**recipe.model, **model}, **own)
    except TypeError as error:
        raise ValueError(str(error)) from error


def read_changes(text: str) -> dict[str, Value]:
    """Read `NAME=VALUE,NAME=VALUE`.

    Args:
        text: What a command line holds.

    Raises:
        ValueError: If it is not of this form.

    Examples:
        >>> read_changes("num_latents=16,scale=0.5,shared_latents=true,act=relu")
        {'num_latents': 16, 'scale': 0.5, 'shared_latents': True, 'act': 'relu'}
    """
    changes = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if not name or not value:
            raise ValueError(f"{part!r} is not of the form NAME=VALUE")
        changes[name] = read_value(value)
    return changes


def read_value(text: str) -> Value:
    """Return the number or the truth value that a text stands for, else the text.

    Args:
        text: Such as `16`, `1e-3`, `true` or `muon`.
    """
    try:
        value = json.loads(text.lower())
    except ValueError:
        return text
    return value if isinstance(value, int | float) else text


def _own_fields() -> set[str]:
    return {field.name for field in fields(Recipe)}
