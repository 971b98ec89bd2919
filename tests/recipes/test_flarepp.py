import pytest

from torch_geometric_flare import FLAREPP, recipes


# blocks, latents, batch size, weight decay: arXiv 2608.11519.
@pytest.mark.parametrize(
    ("name", "num_layers", "num_latents", "batch_size", "weight_decay"),
    [
        ("ELASTICITY", 8, 64, 2, 1e-5),
        ("DARCY", 8, 128, 2, 1e-5),
        ("AIRFOIL", 8, 64, 2, 1e-5),
        ("PIPE", 2, 64, 2, 1e-5),
        ("DRIVAERML", 4, 64, 1, 1e-2),
    ],
)
def test_published_values(name, num_layers, num_latents, batch_size, weight_decay):
    recipe = getattr(recipes, f"FLAREPP_{name}")
    assert recipe.model_class is FLAREPP
    assert dict(recipe.model) == {
        "hidden_channels": 128,
        "num_layers": num_layers,
        "heads": 8,
        "num_latents": num_latents,
        "init": "paper",
    }
    assert (recipe.batch_size, recipe.weight_decay) == (batch_size, weight_decay)
    assert (recipe.epochs, recipe.learning_rate) == (500, 1e-3)
    assert (recipe.gradient_clip, recipe.pct_start) == (1.0, 0.1)
