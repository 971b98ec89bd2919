import pytest

from torch_geometric_flare import Transformer, recipes


# batch size, weight decay, epochs: arXiv 2508.12594, appendix.
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
def test_published_values(name, batch_size, weight_decay, epochs):
    recipe = getattr(recipes, f"TRANSFORMER_{name}")
    assert recipe.model_class is Transformer
    assert (recipe.batch_size, recipe.weight_decay) == (batch_size, weight_decay)
    assert (recipe.gradient_clip, recipe.pct_start) == (1.0, 0.1)
    assert (recipe.epochs, recipe.learning_rate) == (epochs, 1e-3)
    model = recipe.build(in_channels=2, out_channels=1)
    assert sum(p.numel() for p in model.parameters()) == 662_081
