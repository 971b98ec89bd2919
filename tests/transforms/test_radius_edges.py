import sys

import pytest
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_flare.transforms import RadiusEdges, quadrature_weights


def naive(pos, radius):
    """All pairs, each point with itself, by target and then by source."""
    near = torch.cdist(pos.double(), pos.double()) <= radius
    target, source = near.nonzero().t()
    return torch.stack([source, target])


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize("size", [0, 1, 2, 63, 300])
def test_against_all_pairs(size, dimension):
    data = Data(pos=torch.rand(size, dimension), edge_attr=torch.ones(1))
    out = RadiusEdges(0.3)(data)
    assert out.edge_index.equal(naive(data.pos, 0.3))
    assert out.edge_index.dtype == torch.long
    expected = quadrature_weights(data.pos)[out.edge_index[0]]
    assert out.edge_weight.equal(expected)
    assert "edge_attr" not in out and "edge_index" not in data


def test_points_at_one_place():
    out = RadiusEdges(0.1)(Data(pos=torch.zeros(3, 2)))
    assert out.edge_index.shape == (2, 9)
    assert out.edge_weight.equal(torch.ones(9))


def test_weights_are_what_a_sample_knows():
    pos, area = torch.rand(30, 3), torch.rand(30)
    data = Data(pos=pos, area=area, normal=pos, grid=(5, 6))
    out = RadiusEdges(0.4)(data)
    assert out.edge_weight.equal(area[out.edge_index[0]])
    del data.area
    out = RadiusEdges(0.4)(data)
    expected = quadrature_weights(pos, grid=(5, 6))
    assert out.edge_weight.equal(expected[out.edge_index[0]])
    del data.grid
    out = RadiusEdges(0.4)(data)
    expected = quadrature_weights(pos, surface=True)
    assert out.edge_weight.equal(expected[out.edge_index[0]])
    cells = torch.randint(30, (9, 3))
    data.cells = cells
    out = RadiusEdges(0.4)(data)
    expected = quadrature_weights(pos, cells=cells)
    assert out.edge_weight.equal(expected[out.edge_index[0]])


def test_no_edge_joins_samples_and_a_batch_is_its_samples():
    sizes = [(4, 5), (1, 1), (2, 3)]
    # All at the same place, so that points of other samples are near.
    samples = [Data(pos=torch.rand(h * w, 2), grid=(h, w)) for h, w in sizes]
    transform = RadiusEdges(0.5)
    expected = Batch.from_data_list([transform(data) for data in samples])
    found = transform(Batch.from_data_list(samples))
    assert found.edge_index.equal(expected.edge_index)
    assert found.edge_weight.equal(expected.edge_weight)
    assert found.batch[found.edge_index[0]].equal(found.batch[found.edge_index[1]])


def test_a_limit_draws_from_all_neighbours():
    pos = torch.cat([torch.rand(400, 2) / 10, torch.rand(20, 2) + 5])
    every = RadiusEdges(0.2)(Data(pos=pos))
    some = RadiusEdges(0.2, max_neighbors=50)(Data(pos=pos))
    before = every.edge_index[1].bincount()
    assert (before[:400] > 50).all() and (before[400:] < 50).all()
    assert some.edge_index[1].bincount().equal(before.clamp(max=50))
    pairs = set(map(tuple, every.edge_index.t().tolist()))
    drawn = list(map(tuple, some.edge_index.t().tolist()))
    assert len(set(drawn)) == len(drawn) and pairs.issuperset(drawn)
    assert drawn == sorted(drawn, key=lambda edge: (edge[1], edge[0]))
    # Not the nearest ones.
    source, target = some.edge_index[:, some.edge_index[1] < 400]
    full, to = every.edge_index[:, every.edge_index[1] < 400]
    mean = (pos[source] - pos[target]).norm(dim=1).mean()
    expected = (pos[full] - pos[to]).norm(dim=1).mean()
    assert mean == pytest.approx(expected.item(), rel=0.02)
    again = RadiusEdges(0.2, max_neighbors=50)(Data(pos=pos))
    assert again.edge_index.equal(some.edge_index)


def test_coordinates_that_need_a_gradient():
    data = Data(pos=torch.rand(9, 2, requires_grad=True))
    out = RadiusEdges(0.5)(data)
    assert out.edge_index.equal(naive(data.pos.detach(), 0.5))
    assert not out.edge_weight.requires_grad


def test_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.spatial", None)
    with pytest.raises(ImportError, match=r'pip install "\.\[data\]"'):
        RadiusEdges(0.1)(Data(pos=torch.rand(9, 2)))


@pytest.mark.parametrize("radius", [0, -1.0, float("inf"), float("nan")])
def test_no_length(radius):
    with pytest.raises(ValueError, match="radius must be a positive length"):
        RadiusEdges(radius)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Data(x=torch.rand(3, 2)), r"needs coordinates `pos` .* has \['x'\]"),
        (Data(pos=torch.tensor([[torch.nan]])), "pos has non-finite"),
        (Data(pos=torch.rand(6, 2), grid=(2, 4)), r"grid is \(2, 4\), .* = 6 points"),
        (Data(pos=torch.rand(6, 2), area=torch.ones(5)), r"area has shape \(5,\)"),
        (Data(pos=torch.rand(2, 2), area=-torch.ones(2)), "area must be finite and"),
    ],
)
def test_what_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        RadiusEdges(0.1)(data)


def test_arguments():
    with pytest.raises(ValueError, match="max_neighbors must be at least 1, got 0"):
        RadiusEdges(0.1, max_neighbors=0)
    assert repr(RadiusEdges(0.1)) == "RadiusEdges(radius=0.1)"
    assert repr(RadiusEdges(0.1, 8)) == "RadiusEdges(radius=0.1, max_neighbors=8)"


def test_area_given_to_a_batch():
    samples = [Data(pos=torch.rand(size, 2)) for size in (3, 4)]
    batch = Batch.from_data_list(samples)
    batch.area = torch.ones(7)
    with pytest.raises(ValueError, match="area was added to a batch"):
        RadiusEdges(0.5)(batch)
