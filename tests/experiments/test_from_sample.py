import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.experiments.from_sample import FROM_SAMPLE, fit_recipe
from torch_geometric_flare.nn import DeepONet, Transolver
from torch_geometric_flare.recipes import Recipe


def test_grid_and_number_of_points_are_those_of_the_sample():
    sample = Data(pos=torch.rand(12, 2), grid=[3, 4])
    points = Recipe(model_class=DeepONet, model={"num_points": FROM_SAMPLE})
    assert dict(fit_recipe(points, sample).model) == {"num_points": 12}
    conv = Recipe(model_class=Transolver, model={"grid": FROM_SAMPLE, "heads": 2})
    assert dict(fit_recipe(conv, sample).model) == {"grid": (3, 4), "heads": 2}
    fixed = Recipe(model_class=Transolver, model={"grid": (5, 5)})
    assert fit_recipe(fixed, sample) is fixed


@pytest.mark.parametrize("name", ["grid", "heads"])
def test_what_the_sample_does_not_tell(name):
    recipe = Recipe(model_class=Transolver, model={name: FROM_SAMPLE})
    with pytest.raises(ValueError, match=f"takes '{name}' from the samples, which hol"):
        fit_recipe(recipe, Data(pos=torch.rand(12, 2)))
