import numpy as np
import pytest
import torch

from torch_geometric_flare import FLARE, FLAREConv
from torch_geometric_flare.nn.checks import (
    check_edges,
    check_length,
    check_points,
    check_positive,
)


@pytest.mark.parametrize("value", [0, -3, 1.0, 1.5, "a", None, True, np.float64(2)])
def test_no_positive_integer(value):
    with pytest.raises(ValueError, match="heads is .*, expected a positive integer$"):
        check_positive(channels=4, heads=value)


def test_integers_of_any_kind():
    check_positive(channels=1, heads=np.int64(8))


@pytest.mark.parametrize("module", [FLARE, FLAREConv])
def test_a_chunk_may_be_left_out(module):
    message = "chunk_size is 2.5, expected a positive integer or None for all points"
    with pytest.raises(ValueError, match=message):
        module(3, 8, 1, chunk_size=2.5)


@pytest.mark.parametrize(
    "value", [0, -1.0, float("inf"), float("nan"), "1", True, None]
)
def test_no_length(value):
    with pytest.raises(ValueError, match="radius is .*, expected a positive length"):
        check_length(radius=value)
    check_length(radius=1e-6, length_scale=np.float64(3))


def test_edges_that_fit():
    edge_index = torch.zeros(2, 5, dtype=torch.long)
    check_edges(edge_index, edge_weight=torch.ones(5))
    check_edges(edge_index, 3, edge_attr=torch.ones(5, 3))
    check_edges(edge_index, edge_weight=None)


@pytest.mark.parametrize(
    ("edge_index", "channels", "feature", "message"),
    [
        (torch.zeros(5, 2).long(), None, None, r"shape \(5, 2\), expected \[2, E\]"),
        (torch.zeros(2).long(), None, None, r"shape \(2,\), expected \[2, E\]"),
        (torch.zeros(2, 5), None, None, "is torch.float32, expected row numbers"),
        (
            torch.zeros(2, 5).long(),
            None,
            torch.ones(4),
            r"w has shape \(4,\), .*\(5,\)",
        ),
        (torch.zeros(2, 5).long(), 3, torch.ones(5, 2), r"expected \(5, 3\): a row"),
    ],
)
def test_edges_that_do_not_fit(edge_index, channels, feature, message):
    with pytest.raises(ValueError, match=message):
        check_edges(edge_index, channels, w=feature)


def test_a_number_of_points():
    check_points(torch.ones(4, 2), 2, "pos", num_points=4)
    with pytest.raises(ValueError, match="pos has 4 rows, expected 5"):
        check_points(torch.ones(4, 2), 2, "pos", num_points=5)
