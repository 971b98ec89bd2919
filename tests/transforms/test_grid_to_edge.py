import pytest
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_flare.transforms import GridToEdge


def naive(height, width, periodic):
    pairs = set()
    for i in range(height):
        for j in range(width):
            for k, m in ((i + 1, j), (i, j + 1)):
                k = k % height if periodic else k
                if k < height and m < width and (k, m) != (i, j):
                    a, b = i * width + j, k * width + m
                    pairs |= {(a, b), (b, a)}
    return sorted(pairs)


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("grid", [(4, 5), (5, 1), (1, 5), (2, 3), (1, 1)])
def test_against_loops(grid, periodic):
    data = Data(pos=torch.rand(grid[0] * grid[1], 2), grid=grid)
    out = GridToEdge(periodic)(data)
    assert list(map(tuple, out.edge_index.t().tolist())) == naive(*grid, periodic)
    assert out.edge_index.dtype == torch.long
    assert out.grid == grid and "edge_index" not in data


def test_a_batch_of_other_grids_is_its_samples():
    samples = [Data(pos=torch.rand(h * w, 2), grid=(h, w)) for h, w in ((3, 4), (2, 7))]
    for transform in (GridToEdge(), GridToEdge(periodic=True)):
        expected = Batch.from_data_list([transform(data) for data in samples])
        found = transform(Batch.from_data_list(samples))
        assert found.edge_index.equal(expected.edge_index)


def test_a_stale_edge_attr_is_removed():
    data = Data(pos=torch.rand(6, 2), grid=(2, 3), edge_attr=torch.ones(4))
    assert "edge_attr" not in GridToEdge()(data)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (None, r"no `grid`, only \['pos'\]"),
        ((2, 4), r"grid is \(2, 4\), expected \(H, W\) with H \* W = 6 points"),
        ((-2, -3), r"grid is \(-2, -3\)"),
        ((6,), r"grid is \(6,\), expected \(H, W\)"),
        (6, r"grid is 6, expected \(H, W\)"),
    ],
)
def test_grids_that_do_not_fit(grid, message):
    data = Data(pos=torch.rand(6, 2))
    if grid is not None:
        data.grid = grid
    with pytest.raises(ValueError, match=message):
        GridToEdge()(data)


def test_a_batch_needs_a_grid_per_sample():
    batch = Batch.from_data_list([Data(pos=torch.rand(6, 2))] * 3)
    batch.grid = (2, 3)
    with pytest.raises(ValueError, match="one .* for each of the 3 samples"):
        GridToEdge()(batch)
    assert repr(GridToEdge(True)) == "GridToEdge(periodic=True)"
