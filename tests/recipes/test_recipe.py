import copy
import json
import pickle
from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from torch_geometric_flare import recipes
from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import FLARE, Linformer
from torch_geometric_flare.recipes import FLARE_PAPER, INFER, Recipe


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
        "init": "paper",
    }
    assert recipe.optimizer == "adamw"
    assert (recipe.coordinates, recipe.fourier_octaves) == ("given", 0)
    assert (recipe.epochs, recipe.batch_size) == (epochs, batch_size)
    assert recipe.weight_decay == weight_decay
    assert recipe.betas == (0.9, 0.999)
    assert (recipe.learning_rate, recipe.gradient_clip) == (1e-3, 1.0)
    assert (recipe.pct_start, recipe.div_factor) == (0.1, 25.0)
    assert (recipe.final_div_factor, recipe.ema_decay) == (1e4, 0.999)
    assert recipe.num_points is None


@pytest.mark.parametrize(
    "name", [n for n in recipes.__all__ if isinstance(getattr(recipes, n), Recipe)]
)
def test_the_model_takes_the_arguments(name):
    recipe = getattr(recipes, name)
    model = recipe.build(in_channels=3, out_channels=2)
    assert type(model) is recipe.model_class
    added = 2 * 3 * recipe.fourier_octaves
    assert (model.in_channels, model.out_channels) == (3 + added, 2)
    for argument, value in recipe.model.items():
        assert getattr(model, argument) == value


def test_build_draws_the_parameters_of_the_class():
    torch.manual_seed(0)
    built = FLARE_PAPER.build(3, 1).state_dict()
    torch.manual_seed(0)
    expected = FLARE(3, out_channels=1, **FLARE_PAPER.model).state_dict()
    assert all(torch.equal(built[name], value) for name, value in expected.items())


class Pointwise(nn.Module):
    def __init__(self, width=16):
        super().__init__()


class Anything(nn.Module):
    def __init__(self, in_channels, out_channels, depth, **options):
        super().__init__()
        self.options = options


def test_arguments_that_the_class_does_not_take_are_refused():
    with pytest.raises(ValueError, match="'heads', which Pointwise does not.* width"):
        replace(FLARE_PAPER, model_class=Pointwise, model={"heads": 8})
    with pytest.raises(ValueError, match="'hidden_channels', which Pointwise does not"):
        replace(FLARE_PAPER, model_class=Pointwise)
    with pytest.raises(ValueError, match="'num_latent', which FLARE does not accept"):
        replace(FLARE_PAPER, model={"num_latent": 8})
    with pytest.raises(ValueError, match="'in_channels', which"):
        replace(FLARE_PAPER, model={"in_channels": 8})
    recipe = Recipe(model_class=Anything, model={"depth": 2, "colour": "red"})
    assert recipe.build(3, 1).options == {"colour": "red"}


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="FLARE cannot be built .*'hidden_channels'"):
        Recipe(model_class=FLARE).build(3, 1)
    with pytest.raises(ValueError, match="Pointwise cannot be built .*'in_channels'"):
        Recipe(model_class=Pointwise).build(3, 1)


def test_a_class_goes_by_its_name():
    assert FLARE_PAPER.to_dict()["model_class"] == "FLARE"
    assert Recipe(model_class="FLARE").model_class is FLARE
    for given in ("Pointwise", "nn", "__all__", "ResidualMLP", 3, int, FLARE_PAPER):
        with pytest.raises(ValueError, match="model_class is .*, expected a subclass"):
            Recipe(model_class=given)
    own = Recipe(model_class=Pointwise, model={"width": 3})
    assert own.to_dict()["model_class"] == "Pointwise"
    assert own != Recipe(model_class=Anything, model={"width": 3})
    assert copy.deepcopy(own) == own


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
    "name", [n for n in recipes.__all__ if isinstance(getattr(recipes, n), Recipe)]
)
def test_json_gives_an_equal_recipe(name):
    recipe = getattr(recipes, name)
    assert Recipe(**json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_a_flare_with_single_linear_maps():
    model = recipes.FLARE_LINEAR_KV.build(2, 1)
    for block in model.blocks:
        for mlp in (block.mixer.key_mlp, block.mixer.value_mlp):
            assert len(mlp.layers) == 1
            x = torch.randn(5, 128)
            torch.testing.assert_close(mlp(x), mlp.layers[0](x) + x)


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
    with pytest.raises(ValueError, match=r"betas\[1\] must be in \[0, 1\), got 1.0"):
        Recipe(model_class=FLARE, betas=(0.9, 1.0))


SIZES = {"hidden_channels": 8, "num_layers": 1, "heads": 2, "num_latents": 4}
LINFORMER = {"hidden_channels": 8, "num_layers": 1, "heads": 2, "num_points": INFER}


def test_build_for_a_data_set():
    class Samples(list):
        features = (Field("speed"), Field("normal", 3))

    recipe = Recipe(model_class=FLARE, model=SIZES, fourier_octaves=2)
    x, y = torch.rand(5, 7), torch.rand(5, 2)
    # Three coordinates, of which there are sines and cosines of two octaves.
    for dataset in (
        Samples([Data(x=x, y=y)]),
        [Data(x=x, pos=x[:, :3], y=y)],
    ):
        model = recipe.build_for(dataset)
        assert (model.in_channels, model.out_channels) == (7 + 2 * 2 * 3, 2)
    model = recipe.build_for([Data(pos=x[:, :2], y=y[:, 0])])
    assert (model.in_channels, model.out_channels) == (2 + 2 * 2 * 2, 1)
    bound = replace(recipe, model=LINFORMER, model_class=Linformer)
    assert bound.build_for([Data(x=x, y=y)])(torch.rand(5, 7 + 28)).shape == (5, 2)
    for dataset, match in (([], "dataset is empty"), ([Data(x=x)], "'x'")):
        with pytest.raises(ValueError, match=match):
            recipe.build_for(dataset)
