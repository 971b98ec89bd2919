import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from torch_geometric_flare.datasets import MeshData
from torch_geometric_flare.datasets.stored import deserialize, serialize


def samples():
    return [
        MeshData(
            pos=torch.rand(n, 3),
            cells=torch.randint(0, n, (k, 4)),
            edge_index=torch.randint(0, n, (2, 3)),
            face=torch.randint(0, n, (3, 2)),
            grid=(1, n),
        )
        for n, k in ((5, 2), (9, 0), (7, 3))
    ]


def check(batch, data_list):
    """Cells of the batch hold the points that they held in their own sample."""
    corners = torch.cat([data.pos[data.cells] for data in data_list])
    assert batch.pos[batch.cells].equal(corners)
    edges = torch.cat([data.pos[data.edge_index] for data in data_list], dim=1)
    assert batch.pos[batch.edge_index].equal(edges)
    faces = torch.cat([data.pos[data.face] for data in data_list], dim=1)
    assert batch.pos[batch.face].equal(faces)
    assert batch.grid == [data.grid for data in data_list]


def test_cells_of_a_batch_name_their_own_points():
    data_list = samples()
    batch = Batch.from_data_list(data_list)
    check(batch, data_list)
    # What a plain Data does, silently.
    plain = Batch.from_data_list([Data(**data.to_dict()) for data in data_list])
    assert plain.cells.max() < batch.cells.max()


def test_a_batch_comes_apart_again():
    data_list = samples()
    for found, data in zip(
        Batch.from_data_list(data_list).to_data_list(), data_list, strict=True
    ):
        assert type(found) is MeshData
        assert found.to_dict().keys() == data.to_dict().keys()
        assert found.cells.equal(data.cells)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_loaders(num_workers):
    data_list = samples()
    (batch,) = DataLoader(data_list, batch_size=3, num_workers=num_workers)
    check(batch, data_list)


def test_copies_are_of_the_same_class():
    data_list = samples()
    copies = (copy.copy, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d)))
    for make in copies:
        again = [make(data) for data in data_list]
        assert {type(data) for data in again} == {MeshData}
        check(Batch.from_data_list(again), data_list)
    batch = pickle.loads(pickle.dumps(Batch.from_data_list(data_list)))
    check(batch, data_list)


def test_stored_samples_come_back_as_it():
    data_list = samples()
    again = [
        deserialize(serialize(data, Path("a")), Path("a.pt")) for data in data_list
    ]
    check(Batch.from_data_list(again), data_list)
    assert {type(data) for data in again} == {MeshData}
