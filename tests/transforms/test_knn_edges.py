import sys

import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import KNNGraph

from torch_geometric_flare.transforms import KNNEdges


def naive(pos, k):
    """All pairs; by target, then by distance."""
    distance = torch.cdist(pos.double(), pos.double())
    distance.fill_diagonal_(torch.inf)
    k = min(k, len(pos) - 1)
    nearest = distance.argsort(1)[:, :k]
    target = torch.arange(len(pos)).repeat_interleave(k)
    return torch.stack([nearest.flatten(), target])


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.parametrize(("size", "k"), [(63, 1), (500, 6), (5, 6), (6, 5), (2, 3)])
def test_against_all_pairs(size, k, dimension):
    data = Data(pos=torch.rand(size, dimension), edge_attr=torch.ones(1))
    out = KNNEdges(k)(data)
    assert out.edge_index.equal(naive(data.pos, k))
    assert "edge_attr" not in out and "edge_index" not in data
    assert KNNEdges(k)(data).edge_index.equal(out.edge_index)


@pytest.mark.parametrize("size", [0, 1])
def test_no_neighbours(size):
    assert KNNEdges(3)(Data(pos=torch.rand(size, 3))).edge_index.shape == (2, 0)


def test_no_edge_joins_samples_and_a_batch_is_its_samples():
    # All at the same place, so that the nearest points are those of other samples.
    samples = [Data(pos=torch.rand(n, 3)) for n in (10, 1, 3, 63)]
    transform = KNNEdges(4)
    expected = Batch.from_data_list([transform(data) for data in samples])
    found = transform(Batch.from_data_list(samples))
    assert found.edge_index.equal(expected.edge_index)
    assert found.batch[found.edge_index[0]].equal(found.batch[found.edge_index[1]])


def test_points_at_one_place_have_no_loops():
    data = Data(pos=torch.cat([torch.zeros(20, 2), torch.rand(5, 2) + 1]))
    source, target = KNNEdges(3)(data).edge_index
    assert target.equal(torch.arange(25).repeat_interleave(3))
    assert not (source == target).any()
    assert (source[:60] < 20).all()
    assert len(torch.stack([source, target]).unique(dim=1).t()) == 75


def test_undirected():
    data = Data(pos=torch.rand(40, 2))
    one_way = set(map(tuple, KNNEdges(3)(data).edge_index.t().tolist()))
    both = KNNEdges(3, force_undirected=True)(data)
    expected = one_way | {(b, a) for a, b in one_way}
    assert len(expected) > len(one_way)
    assert sorted(expected) == list(map(tuple, both.edge_index.t().tolist()))


def test_edges_of_knn_graph():
    pytest.importorskip("torch_cluster")
    batch = Batch.from_data_list([Data(pos=torch.rand(n, 3)) for n in (100, 4, 63)])
    for undirected in (False, True):
        expected = KNNGraph(6, force_undirected=undirected)(batch).edge_index
        found = KNNEdges(6, force_undirected=undirected)(batch).edge_index
        assert set(map(tuple, found.t().tolist())) == set(
            map(tuple, expected.t().tolist())
        )


def test_coordinates_that_need_a_gradient():
    data = Data(pos=torch.rand(9, 2, requires_grad=True))
    assert KNNEdges(2)(data).edge_index.equal(naive(data.pos.detach(), 2))


def test_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.spatial", None)
    with pytest.raises(ImportError, match=r'pip install "\.\[data\]"'):
        KNNEdges()(Data(pos=torch.rand(9, 2)))


def test_what_is_refused():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        KNNEdges(0)
    with pytest.raises(ValueError, match=r"needs coordinates `pos` .* has \['x'\]"):
        KNNEdges()(Data(x=torch.rand(3, 2)))
    with pytest.raises(ValueError, match="pos has non-finite"):
        KNNEdges()(Data(pos=torch.tensor([[0.0], [torch.nan]])))
    assert repr(KNNEdges(4)) == "KNNEdges(k=4, force_undirected=False)"


def test_unsorted_batch():
    data = Data(pos=torch.rand(4, 2), batch=torch.tensor([0, 1, 0, 1]))
    with pytest.raises(ValueError, match="sorted"):
        KNNEdges(1)(data)
