import json

import pytest

from torch_geometric_flare import recipes
from torch_geometric_flare.nn import Transolver
from torch_geometric_flare.recipes import Recipe


@pytest.mark.parametrize(
    ("name", "batch_size", "weight_decay", "epochs", "grid"),
    [
        ("TRANSOLVER_ELASTICITY", 1, 1e-5, 500, None),
        ("TRANSOLVER_DARCY", 4, 1e-5, 500, None),
        ("TRANSOLVER_AIRFOIL", 4, 1e-5, 500, None),
        ("TRANSOLVER_PIPE", 4, 1e-5, 500, None),
        ("TRANSOLVER_DRIVAERML", 1, 1e-4, 500, None),
        ("TRANSOLVER_LPBF", 1, 1e-4, 250, None),
        ("TRANSOLVER_CONV_DARCY", 4, 1e-5, 500, (85, 85)),
        ("TRANSOLVER_CONV_AIRFOIL", 4, 1e-5, 500, (221, 51)),
        ("TRANSOLVER_CONV_PIPE", 4, 1e-5, 500, (129, 129)),
    ],
)
def test_values_of_the_comparison(name, batch_size, weight_decay, epochs, grid):
    recipe = getattr(recipes, name)
    assert recipe.model_class is Transolver
    assert (recipe.batch_size, recipe.weight_decay) == (batch_size, weight_decay)
    assert (recipe.epochs, recipe.gradient_clip) == (epochs, 0.1)
    assert (recipe.pct_start, recipe.div_factor, recipe.betas) == (
        0.3,
        25,
        (0.9, 0.999),
    )
    model = recipe.build(in_channels=2, out_channels=1)
    assert model.grid == grid
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == (713_665 if grid is None else 2_810_817)


def test_a_grid_survives_json():
    recipe = recipes.TRANSOLVER_CONV_AIRFOIL
    again = Recipe(**json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    assert again.build(2, 1).grid == (221, 51)
