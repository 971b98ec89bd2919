import pytest

from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.recipes import RECIPES, Recipe, change_recipe
from torch_geometric_flare.recipes.changes import (
    read_changes,
    read_value,
    recipe_options,
)

RECIPE = Recipe(model_class=FLARE, model={"hidden_channels": 32})


def test_fields_and_arguments():
    changed = change_recipe(
        RECIPE, {"num_layers": 3, "learning_rate": 0.5, "latent_blocks": 1}
    )
    assert changed.model == {
        "hidden_channels": 32,
        "num_layers": 3,
        "latent_blocks": 1,
    }
    assert changed.learning_rate == 0.5 and changed.epochs == RECIPE.epochs
    assert RECIPE.model == {"hidden_channels": 32}
    assert change_recipe(RECIPE, {}) == RECIPE


def test_what_the_paper_varied_is_there():
    assert {
        "num_layers",
        "heads",
        "num_latents",
        "kv_layers",
        "mlp_layers",
        "shared_latents",
        "latent_blocks",
    } <= set(recipe_options(RECIPE))
    for recipe in RECIPES.values():
        assert not {"in_channels", "out_channels", "epochs"} & {*recipe_options(recipe)}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_heads": 2}, ["FLARE", "'num_heads'", "num_latents", "learning_rate"]),
        ({"in_channels": 2}, ["'in_channels'"]),
        ({"optimizer": "sgd"}, ["sgd", "muon"]),
        ({"batch_size": "two"}, ["batch_size"]),
        ({"learning_rate": -1.0}, ["learning_rate", "-1"]),
    ],
)
def test_errors(changes, named):
    with pytest.raises(ValueError) as caught:
        change_recipe(RECIPE, changes)
    assert all(name in str(caught.value) for name in named)


def test_values_of_a_command_line():
    assert [read_value(t) for t in ("3", "1e-3", "true", "False", "relu", "null")] == [
        3,
        1e-3,
        True,
        False,
        "relu",
        "null",
    ]
    assert read_changes("a=1,b=x") == {"a": 1, "b": "x"}
    for text in ("a", "=1", "a=", "a=1,,b=2"):
        with pytest.raises(ValueError, match="NAME=VALUE"):
            read_changes(text)
