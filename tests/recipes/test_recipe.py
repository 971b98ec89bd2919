import copy
import pickle
from dataclasses import FrozenInstanceError, replace

import pytest

from torch_geometric_flare import recipes
from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.recipes import FLARE_PAPER, Recipe


# heads, latents, epochs, batch size, weight decay: arXiv 2508.12594, appendix.
@pytest.mark.parametrize(
    ("name", "heads", "num_latents", "epochs", "batch_size", "weight_decay"),
    [
        ("ELASTICITY", 8, 64, 500, 2, 1e-5),
        ("DARCY", 16, 256, 500, 2, 1e-5),
        ("AIRFOIL", 8, 256, 500, 2, 1e-5),
        ("PIPE", 8, 128, 500, 2, 1e-5),
        ("DRIVAERML", 8, 256, 500, 1, 1e-4),
        ("LPBF", 8, 128, 250, 1, 1e-4),
    ],
)
def test_published_values(name, heads, num_latents, epochs, batch_size, weight_decay):
    recipe = getattr(recipes, f"FLARE_{name}")
    assert dict(recipe.model) == {
        "hidden_channels": 64,
        "num_layers": 8,
        "heads": heads,
        "num_latents": num_latents,
    }
    assert (recipe.epochs, recipe.batch_size) == (epochs, batch_size)
    assert recipe.weight_decay == weight_decay
    assert recipe.betas == (0.9, 0.999)
    assert (recipe.learning_rate, recipe.gradient_clip) == (1e-3, 1.0)
    assert (recipe.pct_start, recipe.div_factor) == (0.1, 25.0)
    assert (recipe.final_div_factor, recipe.ema_decay) == (1e4, 0.999)
    assert recipe.num_points is None


def test_the_model_takes_the_arguments():
    model = FLARE(3, out_channels=1, **recipes.FLARE_DRIVAERML_QUICK.model)
    assert model.num_layers == 4
    assert FLARE(3, out_channels=1, **FLARE_PAPER.model).num_latents == 64


def test_a_recipe_cannot_change():
    with pytest.raises(FrozenInstanceError):
        FLARE_PAPER.epochs = 1
    with pytest.raises(TypeError):
        FLARE_PAPER.model["heads"] = 1
    arguments = {"heads": 8}
    recipe = Recipe(model_class=FLARE, model=arguments)
    arguments["heads"] = 2
    assert recipe.model["heads"] == 8


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda recipe: pickle.loads(pickle.dumps(recipe)),
        lambda recipe: Recipe(**recipe.to_dict()),
        replace,
    ],
)
def test_copies_are_equal_and_as_frozen(copied):
    recipe = copied(recipes.FLARE_LPBF)
    assert recipe == recipes.FLARE_LPBF
    assert hash(recipe) == hash(recipes.FLARE_LPBF)
    with pytest.raises(TypeError):
        recipe.model["heads"] = 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("num_points", 0),
        ("learning_rate", 0.0),
        ("gradient_clip", -1.0),
        ("div_factor", 0.0),
        ("final_div_factor", 0.0),
        ("weight_decay", -1e-5),
        ("pct_start", 1.0),
        ("ema_decay", 1.0),
    ],
)
def test_values_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must.*got {value}"):
        replace(FLARE_PAPER, **{name: value})


def test_betas_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"betas\[1\] must lie in \[0, 1\), got 1.0"):
        Recipe(model_class=FLARE, betas=(0.9, 1.0))
