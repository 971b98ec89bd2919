import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_flare.transforms import channel_bounds, feature_key, get_feature


def test_normals_and_areas_of_a_sample_are_features():
    data = Data(pos=torch.ones(2, 3), normal=torch.ones(2, 3), area=torch.ones(2))
    assert get_feature(data, "normal") is data.normal
    data[feature_key("area")] = torch.zeros(2, 1)
    assert get_feature(data, "area").tolist() == [[0], [0]]
    assert get_feature(data, "pos") is None


@pytest.mark.parametrize(
    "name", ["speed", "time", "temperature", "surface_distance", "v", "p"]
)
def test_features_have_their_own_names(name):
    assert feature_key(name) == name


RULED = [
    *(
        "x",
        "y",
        "u",
        "weight",
        "pos",
        "area",
        "normal",
        "batch",
        "ptr",
        "face",
        "num_nodes",
        "size",
    ),
    *("wall_index", "mini_batch_age", "num_layers", "edge_length", "node_kind", "grid"),
    *("keys", "to", "group", "cells", "is_cuda", "_hidden", "batch_size", "index"),
]


@pytest.mark.parametrize("name", RULED)
def test_features_that_mean_something_else_get_other_names(name):
    key = feature_key(name)
    assert key != name and key.isidentifier()
    assert feature_key(key) == key
    assert len({feature_key(other) for other in RULED}) == len(RULED)


def test_bounds_of_channels():
    samples = [torch.tensor([[1.0, -2.0], [3.0, 5.0]]), torch.tensor([[2.0, 7.0]])]
    assert channel_bounds([*samples, torch.empty(0, 2)]) == ([1.0, -2.0], [3.0, 7.0])
    with pytest.raises(ValueError, match="samples"):
        channel_bounds([])
