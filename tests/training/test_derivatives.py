import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from torch_geometric_flare.recipes import FLARE_DARCY
from torch_geometric_flare.training.errors import derivative_errors


class Copies(nn.Module):
    """Predicts its input."""

    def forward(self, x):
        return x[:, :1]


def sample(seed, grid=(4, 5)):
    generator = torch.Generator().manual_seed(seed)
    size = grid[0] * grid[1]
    x = torch.rand(size, 1, generator=generator, dtype=torch.float64)
    y = torch.rand(size, 1, generator=generator, dtype=torch.float64)
    return Data(x=x, y=y, grid=grid)


def differences(field):
    """Central differences of a field [H][W] with zeros around it, point by point."""
    height, width = len(field), len(field[0])

    def value(i, j):
        return field[i][j] if 0 <= i < height and 0 <= j < width else 0.0

    places = [(i, j) for i in range(height) for j in range(width)]
    return (
        torch.tensor([value(i + 1, j) - value(i - 1, j) for i, j in places]),
        torch.tensor([value(i, j + 1) - value(i, j - 1) for i, j in places]),
    )


def by_hand(prediction, truth, grid):
    height, width = grid
    inside = prediction.reshape(grid).clone()
    inside[[0, -1]] = 0.0
    inside[:, [0, -1]] = 0.0
    pairs = zip(
        differences(inside.tolist()),
        differences(truth.reshape(grid).tolist()),
        strict=True,
    )
    return sum(((a - b).norm() / b.norm()).item() for a, b in pairs)


def test_the_loss_adds_the_errors_of_both_derivatives(module):
    batch = Batch.from_data_list([sample(0), sample(1)])
    plain, weighted = (
        module(Copies(), derivative_weight=weight).double() for weight in (0.0, 0.1)
    )
    prediction = plain(batch)
    added = weighted.loss(prediction, batch) - plain.loss(prediction, batch)
    values = prediction.reshape(2, 20), batch.y.reshape(2, 20)
    wanted = [by_hand(*pair, (4, 5)) for pair in zip(*values, strict=True)]
    assert added.item() == pytest.approx(0.1 * sum(wanted) / 2, rel=1e-6)
    assert FLARE_DARCY.derivative_weight == 0.1


def test_samples_that_are_on_no_common_grid(module):
    training = module(Copies(), derivative_weight=0.1)
    fields = training.surrogate.fields
    for samples in ([sample(0), sample(1, (5, 4))], [Data(x=torch.ones(3, 1))] * 2):
        batch = Batch.from_data_list(samples)
        with pytest.raises(ValueError, match="need samples on one grid"):
            derivative_errors(batch.x[:, :1], batch, fields)
    spread = sample(0)
    spread.group = object()
    with pytest.raises(ValueError, match="distributed over processes"):
        derivative_errors(spread.x[:, :1], spread, fields)
