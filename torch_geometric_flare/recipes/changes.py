"""Changes to a recipe's fields and to its model's arguments."""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from inspect import signature
from typing import Any

from torch_geometric_flare.recipes.recipe import Recipe, Value

# The budget of a run, which has separate options, and fields without plain values.
_FIXED = ("model_class", "model", "epochs", "max_steps")
# Arguments determined by the data.
_CHANNELS = ("in_channels", "out_channels")


def recipe_options(recipe: Recipe) -> list[str]:
    """Return the names that `change_recipe` supports.

    Args:
        recipe: A recipe of the model.
    """
    arguments = set(signature(recipe.model_class).parameters)
    return sorted((_recipe_fields() | arguments) - {*_FIXED, *_CHANNELS})


def change_recipe(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return a recipe with changed values.

    Args:
        recipe: The recipe.
        changes: Values by name, for fields of the recipe, such as `learning_rate`, or
            for arguments of its model, such as `num_latents`.

    Raises:
        ValueError: If an option does not exist or its value is invalid.

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
    training = {
        name: value for name, value in changes.items() if name in _recipe_fields()
    }
    model = {name: value for name, value in changes.items() if name not in training}
    try:
        return replace(recipe, model={**recipe.model, **model}, **training)
    except TypeError as error:
        raise ValueError(str(error)) from error


def read_changes(text: str) -> dict[str, Value]:
    """Parse `NAME=VALUE,NAME=VALUE`.

    Args:
        text: Text from the command line.

    Raises:
        ValueError: If it does not have this form.

    Examples:
        >>> read_changes("num_latents=16,scale=0.5,shared_latents=true,act=relu")
        {'num_latents': 16, 'scale': 0.5, 'shared_latents': True, 'act': 'relu'}
    """
    changes = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if not name or not value:
            raise ValueError(f"{part!r} does not have the form NAME=VALUE")
        changes[name] = read_value(value)
    return changes


def read_value(text: str) -> Value:
    """Parse a number or a boolean, or return the text unchanged.

    Args:
        text: Text such as `16`, `1e-3`, `true` or `muon`.
    """
    try:
        value = json.loads(text.lower())
    except ValueError:
        return text
    return value if isinstance(value, int | float) else text


def _recipe_fields() -> set[str]:
    return {field.name for field in fields(Recipe)}
