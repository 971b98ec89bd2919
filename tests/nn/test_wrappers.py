import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    checkpoint_wrapper,
)
from torch.optim.swa_utils import AveragedModel
from torch_geometric.data import Data

from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.surrogates import (
    Surrogate,
    edge_transform,
    forward_parameters,
    unwrap,
)
from torch_geometric_flare.training import SurrogateModule
from torch_geometric_flare.transforms import Normalizer


class OnEdges(nn.Module):
    radius = 0.5

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, x, edge_index, edge_weight, batch=None):
        return self.linear(x) * edge_weight.sum()


class Adapter(nn.Module):
    """As the models of peft: two layers that hand on what they get."""

    def __init__(self, model):
        super().__init__()
        self.base_model = Passing(model)

    def forward(self, *args, **kwargs):
        return self.base_model(*args, **kwargs)


class Passing(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, *args, **kwargs):
        return self.model(*args, **kwargs)


WRAPPERS = {
    "compile": lambda model: torch.compile(model, backend="eager"),
    "average": AveragedModel,
    "checkpoint": checkpoint_wrapper,
    "adapter": Adapter,
    "several": lambda model: AveragedModel(torch.compile(model, backend="eager")),
}


@pytest.fixture(params=WRAPPERS)
def wrap(request):
    return WRAPPERS[request.param]


def test_the_network_inside_is_asked(wrap):
    model = OnEdges()
    outside = wrap(model)
    inside = unwrap(outside)
    assert type(inside) is OnEdges
    assert list(forward_parameters(outside)) == [
        "x",
        "edge_index",
        "edge_weight",
        "batch",
    ]
    assert str(edge_transform(outside)) == str(edge_transform(model))


def test_a_wrapped_model_predicts_as_the_network(wrap):
    torch.manual_seed(0)
    model = OnEdges()
    normalizer = Normalizer([1.0], [2.0])
    coordinates = Normalizer.from_bounds([0.0] * 3, [1.0] * 3)
    sample = Data(pos=torch.rand(6, 3))
    plain = Surrogate(model, normalizer, coordinates).predict(sample)
    wrapped = Surrogate(wrap(model), normalizer, coordinates).predict(sample)
    assert torch.equal(plain, wrapped)


def test_a_recipe_is_for_the_network_inside(wrap):
    recipe = Recipe(model_class=OnEdges)
    module = SurrogateModule(wrap(OnEdges()), Normalizer([0.0], [1.0]), recipe=recipe)
    assert module.recipe is recipe
    module = SurrogateModule(wrap(OnEdges()), Normalizer([0.0], [1.0]))
    assert module.recipe.model_class is OnEdges


def test_a_network_is_not_looked_through():
    for model in (OnEdges(), nn.Sequential(OnEdges())):
        assert unwrap(model) is model
