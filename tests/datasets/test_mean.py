import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.datasets import MeanSample
from torch_geometric_flare.datasets.baselines import points_correspond


def sample(*values, **more):
    y = torch.tensor(values).unsqueeze(1)
    return Data(x=torch.zeros_like(y), y=y, **more)


def test_the_mean_field_where_points_correspond():
    mean = MeanSample([sample(1.0, 2.0, grid=(2, 1)), sample(5.0, 4.0, grid=(2, 1))])
    assert mean.predict(sample(0.0, 0.0, grid=(2, 1))).tolist() == [[3.0], [3.0]]
    mean = MeanSample([sample(1.0, 2.0, grid=(2, 1)), sample(3.0, 6.0, grid=(2, 1))])
    assert mean.predict(sample(0.0, 0.0, grid=(2, 1))).tolist() == [[2.0], [4.0]]
    # A query on another grid gets the constant.
    assert mean.predict(sample(0.0, 0.0, 0.0, grid=(3, 1))).tolist() == [[3.0]] * 3


def test_a_constant_where_they_do_not():
    mean = MeanSample([sample(1.0, 2.0), sample(6.0)])
    assert mean.predict(sample(9.0, 9.0)).tolist() == [[3.0], [3.0]]
    # The same number of points is not a correspondence.
    mean = MeanSample([sample(1.0, 2.0), sample(3.0, 6.0)])
    assert mean.predict(sample(9.0, 9.0)).tolist() == [[3.0], [3.0]]


def test_errors():
    with pytest.raises(ValueError, match="samples is empty"):
        MeanSample([])
    with pytest.raises(ValueError, match=r"samples\[1\] has no y, only \['x'\]"):
        MeanSample([sample(1.0), Data(x=torch.ones(1, 1))])


def test_correspondence():
    cells = torch.tensor([[0, 1, 2]])
    moved = [Data(pos=torch.rand(3, 2), cells=cells.clone()) for _ in range(2)]
    assert points_correspond(*moved)
    moved[1].cells = cells.flip(1)
    assert not points_correspond(*moved)
    moved[1].pos = moved[0].pos.clone()
    assert points_correspond(*moved)
    assert not points_correspond(Data(x=torch.ones(3, 1)), Data(x=torch.ones(3, 1)))
    grids = [Data(x=torch.ones(6, 1), grid=grid) for grid in ((2, 3), (3, 2))]
    assert not points_correspond(*grids)
