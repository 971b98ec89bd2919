import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from torch_geometric_flare.surrogates import forward_arguments


class GraphModel(nn.Module):
    def forward(
        self, x, pos, edge_attr=None, chunk_size=7, batch=None, batch_size=None, **rest
    ):
        return x


def test_the_signature_chooses_the_fields():
    samples = [Data(x=torch.ones(n, 1), pos=torch.ones(n, 3), y=n) for n in (2, 3)]
    arguments = forward_arguments(GraphModel(), Batch.from_data_list(samples))
    assert sorted(arguments) == ["batch", "batch_size", "pos", "x"]
    assert arguments["batch"].tolist() == [0, 0, 1, 1, 1]
    assert arguments["batch_size"] == 2
    assert arguments["x"].shape == (5, 1)


def test_a_sample_alone_has_no_batch_vector():
    sample = Data(x=torch.ones(2, 1), pos=torch.ones(2, 3), edge_attr=torch.ones(1))
    arguments = forward_arguments(GraphModel(), sample)
    assert sorted(arguments) == ["batch_size", "edge_attr", "pos", "x"]
    assert arguments["batch_size"] == 1


def test_a_missing_field_is_named():
    sample = Data(x=torch.ones(2, 1))
    with pytest.raises(ValueError, match=r"GraphModel.forward needs.*'pos'.*\['x'\]"):
        forward_arguments(GraphModel(), sample)
