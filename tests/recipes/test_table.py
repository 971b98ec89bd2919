import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.nn import DeepONet, Transolver
from torch_geometric_flare.recipes import (
    FLARE_DARCY_QUICK,
    FLAREPP_PIPE,
    INFER,
    RECIPES,
    TRANSOLVER_CONV_PIPE,
    Recipe,
    resolve_recipe,
)


def test_a_recipe_by_model_problem_and_kind():
    assert RECIPES["FLARE", "darcy", "quick"] is FLARE_DARCY_QUICK
    assert RECIPES["FLAREPP", "pipe", "paper"] is FLAREPP_PIPE
    assert RECIPES["TransolverConv", "pipe", "paper"] is TRANSOLVER_CONV_PIPE
    assert ("FLAREPP", "lpbf", "paper") not in RECIPES  # nobody has published one
    for (model, _, _), recipe in RECIPES.items():
        assert recipe.model_class.__name__ == model.removesuffix("Conv")


def test_a_missing_recipe_lists_what_there_is():
    with pytest.raises(ValueError, match="FLAREP'.*FLARE paper, FLARE quick, FLAREHyb"):
        RECIPES["FLAREP", "darcy", "quick"]
    with pytest.raises(ValueError, match="FLAREPP', 'lpbf', 'paper'.*FLAREPP quick"):
        RECIPES["FLAREPP", "lpbf", "paper"]
    for key in (("FLARE", "dracy", "quick"), "FLARE"):
        with pytest.raises(ValueError, match="airfoil, darcy, drivaerml, elasticity"):
            RECIPES[key]


def test_the_recipes_of_a_problem():
    darcy = RECIPES.of_problem("darcy")
    assert darcy["FLARE", "quick"] is FLARE_DARCY_QUICK
    assert {kind for _, kind in darcy} == {"paper", "quick"}


def test_grid_and_number_of_points_are_those_of_the_sample():
    sample = Data(pos=torch.rand(12, 2), grid=[3, 4])
    points = Recipe(model_class=DeepONet, model={"num_points": INFER})
    assert dict(resolve_recipe(points, sample).model) == {"num_points": 12}
    conv = Recipe(model_class=Transolver, model={"grid": INFER, "heads": 2})
    assert dict(resolve_recipe(conv, sample).model) == {"grid": (3, 4), "heads": 2}
    fixed = Recipe(model_class=Transolver, model={"grid": (5, 5)})
    assert resolve_recipe(fixed, sample) is fixed


@pytest.mark.parametrize("name", ["grid", "heads"])
def test_what_the_sample_does_not_have(name):
    recipe = Recipe(model_class=Transolver, model={name: INFER})
    with pytest.raises(ValueError, match=f"'{name}'"):
        resolve_recipe(recipe, Data(pos=torch.rand(12, 2)))
