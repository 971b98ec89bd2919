import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.training import SurrogateModule
from torch_geometric_flare.transforms import Normalizer

UPPER = 4.0


class Pointwise(nn.Module):
    """A model of our own, unknown to the package, with dropout."""

    def __init__(self, width=16):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, width),
            nn.LayerNorm(width),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Linear(width, 1),
        )

    def forward(self, x, batch=None, batch_size=None):
        return self.layers(x)


def make_samples(num_samples, seed):
    """Point sets of unequal size with a field of large mean and small spread."""
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for number in range(num_samples):
        x = torch.rand(30 + number % 3, 3, generator=generator)
        y = 20 + 10 * torch.sin(3 * x.sum(1, keepdim=True))
        samples.append(Data(x=x, pos=UPPER * x, y=y, number=number))
    return samples


def make_module(model=None, **recipe):
    torch.manual_seed(0)
    arguments = {"epochs": 4, "batch_size": 2, "learning_rate": 1e-2} | recipe
    model = Pointwise() if model is None else model
    return SurrogateModule(
        model,
        Normalizer([20.0], [7.0]),
        Normalizer.from_bounds([0.0] * 3, [UPPER] * 3),
        Recipe(model_class=type(model), **arguments),
    )


@pytest.fixture(scope="session")
def pointwise():
    return Pointwise


@pytest.fixture(scope="session")
def samples():
    return make_samples


@pytest.fixture(scope="session")
def module():
    return make_module
