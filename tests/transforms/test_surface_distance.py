import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.transforms import SurfaceDistance

# An L of nodes in the plane, numbered as listed: a column and a step to the right.
NODES = torch.tensor([[0.0, 0.0], [0.0, 2.0], [0.0, 5.0], [1.0, 0.0], [2.5, 0.0]])
EDGES = torch.tensor([[0, 1, 0, 3], [1, 2, 3, 4]])


def sample(edges=EDGES, nodes=NODES):
    return Data(pos=nodes, x=nodes / 10, edge_index=edges)


def lengths(data):
    return data.x[:, 2:].expm1()


def test_literal_walks():
    expected = [
        [0, 2.5, 0, 5],
        [0, 0, 2, 3],
        [0, 0, 5, 0],
        [1, 1.5, 0, 0],
        [2.5, 0, 0, 0],
    ]
    data = SurfaceDistance()(sample())
    torch.testing.assert_close(lengths(data), torch.tensor(expected))
    torch.testing.assert_close(data.x[:, :2], NODES / 10)
    (field,) = SurfaceDistance().fields(2)
    assert field.channels == 4


def test_order_and_direction_of_edges_count_for_nothing():
    expected = SurfaceDistance()(sample()).x
    both = torch.cat([EDGES, EDGES.flip(0)], dim=1)[:, torch.randperm(8)]
    torch.testing.assert_close(SurfaceDistance()(sample(both)).x, expected)
    order = torch.randperm(5)
    place = order.argsort()
    moved = SurfaceDistance()(sample(place[EDGES], NODES[order]))
    torch.testing.assert_close(moved.x, expected[order])


def test_slanted_edges_and_lone_nodes():
    nodes = torch.tensor([[0.0, 0.0], [1.0, 1.0], [7.0, 7.0]])
    data = SurfaceDistance()(sample(torch.tensor([[0], [1]]), nodes))
    assert not lengths(data).any()
    empty = SurfaceDistance()(sample(torch.empty(2, 0, dtype=torch.long)))
    assert not lengths(empty).any()


def test_a_full_box_has_the_distances_to_its_faces():
    side = torch.arange(4.0)
    nodes = torch.cartesian_prod(side, side, side)
    gap = (nodes[:, None] - nodes[None]).norm(dim=2)
    edges = (gap == 1).nonzero().T
    data = SurfaceDistance()(Data(pos=nodes, x=nodes, edge_index=edges))
    expected = torch.stack([nodes, 3 - nodes], dim=2).flatten(1)
    torch.testing.assert_close(data.x[:, 3:].expm1(), expected)


def test_a_sample_without_edges_is_refused():
    with pytest.raises(ValueError, match="edge_index"):
        SurfaceDistance()(Data(pos=NODES, x=NODES))
