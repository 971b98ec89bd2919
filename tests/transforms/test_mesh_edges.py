import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import Cartesian, Compose, Distance

from torch_geometric_flare.datasets import MeshData
from torch_geometric_flare.transforms import (
    CellsToEdge,
    GridToEdge,
    KNNEdges,
    MeshEdges,
)

CELLS = torch.tensor([[0, 1, 2], [1, 2, 3]])
EDGES = torch.tensor([[0, 5], [5, 0]])


def sample(**more):
    return MeshData(pos=torch.rand(6, 2), **more)


def test_the_meshs_own_edges_first_then_cells_then_grid_then_neighbours():
    data = sample(edge_index=EDGES, edge_attr=torch.ones(2), cells=CELLS, grid=(2, 3))
    out = MeshEdges()(data)
    assert out.edge_index is EDGES and out.edge_attr is data.edge_attr
    del data.edge_index, data.edge_attr
    assert MeshEdges()(data).edge_index.equal(CellsToEdge()(data).edge_index)
    del data.cells
    assert MeshEdges()(data).edge_index.equal(GridToEdge()(data).edge_index)
    del data.grid
    assert MeshEdges(k=2)(data).edge_index.equal(KNNEdges(2)(data).edge_index)
    assert "edge_index" not in data


def test_arguments_reach_the_parts():
    solid = Data(pos=torch.rand(4, 3), cells=torch.tensor([[0, 1, 2, 3]]))
    assert MeshEdges(cell_type="tetra")(solid).num_edges == 12
    ring = Data(pos=torch.rand(5, 2), grid=(5, 1))
    assert (MeshEdges()(ring).num_edges, MeshEdges(periodic=True)(ring).num_edges) == (
        8,
        10,
    )
    with pytest.raises(ValueError, match="k must be at least 1"):
        MeshEdges(k=0)
    with pytest.raises(ValueError, match="needs coordinates `pos`"):
        MeshEdges()(Data(x=torch.rand(3, 1)))
    text = "MeshEdges(k=6, cell_type=None, periodic=False)"
    assert repr(MeshEdges()) == text


@pytest.mark.parametrize("kind", ["edge_index", "cells", "grid", None])
def test_a_batch_is_its_samples(kind):
    value = {"edge_index": EDGES, "cells": CELLS, "grid": (2, 3), None: None}[kind]
    more = {} if kind is None else {kind: value}
    samples = [sample(**more) for _ in range(3)]
    transform = Compose([MeshEdges(k=2), Cartesian(norm=False), Distance(norm=False)])
    expected = Batch.from_data_list([transform(data) for data in samples])
    found = transform(Batch.from_data_list(samples))
    assert found.edge_index.equal(expected.edge_index)
    assert found.edge_attr.equal(expected.edge_attr)


@pytest.mark.parametrize("dimension", [2, 3])
def test_features_are_relative_position_and_length(dimension):
    data = Data(pos=torch.rand(9, dimension))
    transform = Compose([MeshEdges(k=3), Cartesian(norm=False), Distance(norm=False)])
    out = transform(data)
    source, target = out.edge_index
    step = data.pos[source] - data.pos[target]
    expected = torch.cat([step, step.norm(dim=1, keepdim=True)], dim=1)
    assert out.edge_attr.shape == (27, dimension + 1)
    torch.testing.assert_close(out.edge_attr, expected)
