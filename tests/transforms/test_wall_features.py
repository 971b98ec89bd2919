import math

import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.transforms import RandomMirror, WallFeatures


def grid_sample():
    pos = torch.tensor(
        [[0.0, 0.0], [0.0, 1.0], [5.0, 0.1], [5.0, 3.1], [1.0, -0.2], [1.5, -0.2]]
    )
    return Data(pos=pos, x=pos / 10, grid=(3, 2))


def test_literal_values():
    data = WallFeatures(length=0.5, reach=2.0)(grid_sample())
    torch.testing.assert_close(data.x[:, :2], grid_sample().x)
    wall = [[0, 0], [0, 0], [2, 0.1], [2, 0.1], [1, -0.2], [1, -0.2]]
    torch.testing.assert_close(data.x[:, 2:4], torch.tensor(wall))
    offset = [[0, 0], [0, 2], [0, 0], [0, 6], [0, 0], [1, 0]]
    expected = [[math.asinh(a), math.asinh(b)] for a, b in offset]
    torch.testing.assert_close(data.x[:, 4:], torch.tensor(expected))
    assert [f.channels for f in WallFeatures(1.0, 1.0).fields(2)] == [2, 2]


def test_twice_is_once_and_a_mirror_image_has_mirrored_features():
    transform = WallFeatures(length=0.5, reach=2.0)
    once = transform(grid_sample())
    torch.testing.assert_close(transform(once.clone()).x, once.x)
    mirrored = transform(RandomMirror(axis=1, p=1.0)(once.clone()))
    flipped = once.x.view(3, 2, 6).flip(0).reshape(6, 6)
    flipped = flipped * torch.tensor([1.0, -1.0] * 3)
    torch.testing.assert_close(mirrored.x, flipped)


@pytest.mark.parametrize("grid", [None, (2, 2), (6,)])
def test_points_that_are_no_grid_are_refused(grid):
    data = grid_sample()
    data.grid = grid
    with pytest.raises(ValueError, match="grid"):
        WallFeatures(1.0, 1.0)(data)
