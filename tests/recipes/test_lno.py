import pytest

from torch_geometric_flare import recipes
from torch_geometric_flare.nn import LNO


@pytest.mark.parametrize(
    ("name", "in_channels", "parameters", "batch_size", "weight_decay", "epochs"),
    [
        ("ELASTICITY", 2, 1_831_745, 4, 1e-5, 500),
        ("DARCY", 3, 762_241, 4, 1e-5, 500),
        ("AIRFOIL", 2, 1_291_905, 4, 1e-5, 500),
        ("PIPE", 2, 1_291_905, 4, 1e-5, 500),
        ("DRIVAERML", 3, 762_241, 1, 1e-4, 500),
        ("LPBF", 3, 762_241, 1, 1e-4, 250),
    ],
)
def test_values_of_the_comparison(
    name, in_channels, parameters, batch_size, weight_decay, epochs
):
    recipe = getattr(recipes, f"LNO_{name}")
    assert recipe.model_class is LNO
    assert (recipe.batch_size, recipe.weight_decay) == (batch_size, weight_decay)
    assert (recipe.epochs, recipe.gradient_clip) == (epochs, 1000.0)
    assert (recipe.betas, recipe.pct_start) == ((0.9, 0.99), 0.2)
    assert (recipe.div_factor, recipe.final_div_factor) == (1e4, 1e4)
    model = recipe.build(in_channels, out_channels=1)
    assert sum(p.numel() for p in model.parameters()) == parameters
