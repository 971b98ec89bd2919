import pytest

from torch_geometric_flare import GNOT, recipes


# grid, batch size, weight decay, epochs, parameters: arXiv 2508.12594, appendix.
@pytest.mark.parametrize(
    ("name", "in_channels", "grid", "batch_size", "weight_decay", "epochs", "count"),
    [
        ("ELASTICITY", 2, None, 2, 1e-5, 500, 4_870_553),
        ("DARCY", 3, (85, 85), 4, 1e-5, 500, 4_904_345),
        ("AIRFOIL", 2, (221, 51), 4, 1e-5, 500, 4_902_297),
        ("PIPE", 2, (129, 129), 4, 1e-5, 500, 4_902_297),
        ("DRIVAERML", 3, None, 1, 1e-4, 500, None),
        ("LPBF", 3, None, 1, 1e-4, 250, None),
    ],
)
def test_published_values(
    name, in_channels, grid, batch_size, weight_decay, epochs, count
):
    recipe = getattr(recipes, f"GNOT_{name}")
    assert recipe.model_class is GNOT
    assert recipe.model.get("grid") == grid
    assert (recipe.batch_size, recipe.weight_decay) == (batch_size, weight_decay)
    assert (recipe.gradient_clip, recipe.pct_start) == (0.1, 0.3)
    assert (recipe.epochs, recipe.learning_rate) == (epochs, 1e-3)
    model = recipe.build(in_channels, 1)
    assert (model.hidden_channels, model.num_layers, model.heads) == (128, 8, 8)
    assert (model.num_experts, model.mlp_ratio) == (3, 2)
    if count is not None:
        assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("name", ["DARCY", "AIRFOIL", "PIPE"])
def test_those_with_inputs_differ_in_nothing_else(name):
    plain = getattr(recipes, f"GNOT_{name}").to_dict()
    other = getattr(recipes, f"GNOT_{name}_WITH_INPUTS").to_dict()
    plain["model"]["embed_inputs"] = True
    assert other == plain
