import pytest

from torch_geometric_flare import recipes
from torch_geometric_flare.nn import PerceiverIO


@pytest.mark.parametrize(
    ("name", "batch_size", "weight_decay", "epochs"),
    [
        ("ELASTICITY", 2, 1e-5, 500),
        ("DARCY", 2, 1e-5, 500),
        ("AIRFOIL", 2, 1e-5, 500),
        ("PIPE", 2, 1e-5, 500),
        ("DRIVAERML", 1, 1e-4, 500),
        ("LPBF", 1, 1e-4, 250),
    ],
)
def test_values_of_the_comparison(name, batch_size, weight_decay, epochs):
    recipe = getattr(recipes, f"PERCEIVER_IO_{name}")
    assert recipe.model_class is PerceiverIO
    assert (recipe.batch_size, recipe.weight_decay) == (batch_size, weight_decay)
    assert (recipe.epochs, recipe.gradient_clip, recipe.pct_start) == (epochs, 1.0, 0.1)
    model = recipe.build(in_channels=2, out_channels=1)
    assert sum(p.numel() for p in model.parameters()) == 1_864_833
