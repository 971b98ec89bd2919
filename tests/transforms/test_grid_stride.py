import pytest
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_flare.transforms import GridStride


def sample(height, width):
    number = torch.arange(height * width)
    place = torch.stack([number // width, number % width], dim=1)
    return Data(
        x=place.double(),
        pos=place.float(),
        y=number[:, None],
        grid=(height, width),
        name="a",
        drag=0.3,
    )


@pytest.mark.parametrize("step", [1, 2, 3, 10])
@pytest.mark.parametrize("grid", [(7, 5), (6, 4), (1, 9)])
def test_points_and_fields_of_every_nth_row_and_column(grid, step):
    data = sample(*grid)
    out = GridStride(step)(data)
    rows, columns = range(0, grid[0], step), range(0, grid[1], step)
    assert out.grid == (len(rows), len(columns))
    assert out.pos.tolist() == [[i, j] for i in rows for j in columns]
    assert out.x.equal(out.pos.double())
    assert out.y[:, 0].tolist() == [i * grid[1] + j for i in rows for j in columns]
    assert out.name == "a" and out.drag == 0.3
    assert data.grid == grid and data.num_nodes == grid[0] * grid[1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Data(pos=torch.zeros(4, 2)), "grid=None and 4 points"),
        (Data(pos=torch.zeros(4, 2), grid=(3, 2)), r"grid=\(3, 2\) and 4 points"),
        (Data(pos=torch.zeros(4, 2), grid=(2, 2), cells=torch.zeros(1, 4)), "`cells`"),
        (Batch.from_data_list([sample(2, 2)]), "is a batch"),
    ],
)
def test_samples_that_cannot_be_thinned(data, message):
    with pytest.raises(ValueError, match=message):
        GridStride(2)(data)


def test_step_below_one():
    with pytest.raises(ValueError, match="step must be at least 1, got 0"):
        GridStride(0)
