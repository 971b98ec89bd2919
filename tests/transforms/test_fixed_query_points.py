import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import Compose, FixedPoints

from torch_geometric_flare.transforms import FixedQueryPoints


def sample(number=50):
    numbers = torch.arange(float(number))
    return Data(
        x=torch.rand(30, 3),
        y=torch.rand(30, 1),
        query_pos=numbers[:, None].expand(-1, 3),
        query_x=numbers[:, None],
        query_speed=numbers,
    )


def test_rows_stay_together():
    torch.manual_seed(0)
    data = sample()
    before = data.x
    drawn = FixedQueryPoints(20)(data)
    assert drawn.x is before and len(drawn.y) == 30
    kept = drawn.query_speed
    assert len(kept.unique()) == len(kept) == 20
    assert torch.equal(drawn.query_x[:, 0], kept)
    assert torch.equal(drawn.query_pos[:, 1], kept)
    assert not torch.equal(FixedQueryPoints(20)(sample()).query_speed, kept)


def test_fewer_points_are_all_kept():
    drawn = FixedQueryPoints(80)(sample())
    assert torch.equal(drawn.query_speed.sort().values, torch.arange(50.0))


def test_behind_fixed_points():
    both = Compose([FixedPoints(10, replace=False), FixedQueryPoints(20)])
    for number in (30, 50):  # as many as the points, and others
        drawn = both(sample(number))
        assert len(drawn.x) == 10
        assert len(drawn.query_x) == min(20, 10 if number == 30 else 20)
        assert torch.equal(drawn.query_x[:, 0], drawn.query_speed)


def test_bad_arguments():
    assert repr(FixedQueryPoints(20)) == "FixedQueryPoints(20)"
    with pytest.raises(ValueError, match="num"):
        FixedQueryPoints(0)
    with pytest.raises(ValueError, match="query_pos"):
        FixedQueryPoints(2)(Data(x=torch.rand(3, 3)))
    with pytest.raises(ValueError, match="query_speed"):
        FixedQueryPoints(2)(Data(query_x=torch.rand(3, 3), query_speed=torch.rand(4)))
    with pytest.raises(ValueError, match="batch"):
        FixedQueryPoints(2)(Batch.from_data_list([sample(), sample()]))
