import numpy as np
import pytest
import torch
from torch_geometric import EdgeIndex

from torch_geometric_flare import FLARE, FLAREConv
from torch_geometric_flare.nn import (
    GNOT,
    LNO,
    FLAREPPConv,
    PhysicsAttention,
    SoftmaxAttention,
    Transformer,
)
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
        (torch.zeros(2, 5), None, None, "is torch.float32, expected row indices"),
        (
            torch.zeros(2, 5).long(),
            None,
            torch.ones(4),
            r"w has shape \(4,\), .*\(5,\)",
        ),
        (torch.zeros(2, 5).long(), 3, torch.ones(5, 2), r"expected \(5, 3\): one row"),
    ],
)
def test_edges_that_do_not_fit(edge_index, channels, feature, message):
    with pytest.raises(ValueError, match=message):
        check_edges(edge_index, channels, w=feature)


def test_a_number_of_points():
    check_points(torch.ones(4, 2), 2, "pos", num_points=4)
    for module in (FLARE(3, 8, 1, heads=2), FLAREConv(3, 8, heads=2)):
        with pytest.raises(ValueError, match=r"\(7, 5\), .*\[N, 3\]") as caught:
            module(torch.ones(7, 5))
        assert "batch" not in str(caught.value)
    with pytest.raises(ValueError, match="pass `batch`"):
        check_points(torch.ones(2, 7, 3), 3)
    with pytest.raises(ValueError, match="pos has 4 rows, expected 5"):
        check_points(torch.ones(4, 2), 2, "pos", num_points=5)


EDGES = torch.tensor([[0, 1, 2, 3, 4, 0, 1], [1, 2, 3, 4, 0, 2, 3]])
TAKE_NO_EDGES = {
    "FLAREConv": lambda: FLAREConv(8),
    "FLAREPPConv": lambda: FLAREPPConv(8),
    "PhysicsAttention": lambda: PhysicsAttention(8),
    "SoftmaxAttention": lambda: SoftmaxAttention(8, heads=2),
    "FLARE": lambda: FLARE(8, 8, 1, num_layers=1),
    "LNO": lambda: LNO(8, 8, 1, num_layers=1),
    "GNOT": lambda: GNOT(8, 8, 1, num_layers=1),
    "Transformer": lambda: Transformer(8, 8, 1, num_layers=1),
}


@pytest.mark.parametrize("name", TAKE_NO_EDGES)
@pytest.mark.parametrize(
    "edges",
    [EDGES, EDGES.int(), EDGES[:, :0], torch.eye(5).to_sparse()],
    ids=["long", "int", "none", "adjacency"],
)
def test_edges_as_the_batch(name, edges):
    module = TAKE_NO_EDGES[name]()
    message = rf"^{name} takes no edge_index, .*data\.batch"
    with pytest.raises(ValueError, match=message):
        module(torch.randn(5, 8), edges)


def test_edges_as_the_batch_of_a_pair():
    x = torch.randn(5, 8), torch.randn(3, 8)
    with pytest.raises(ValueError, match="FLAREConv takes no edge_index"):
        FLAREConv(8)(x, EDGES)


def test_edges_of_a_class_of_their_own():
    edges = EdgeIndex(EDGES, sparse_size=(5, 5))
    with pytest.raises(ValueError, match="FLAREConv takes no edge_index"):
        FLAREConv(8)(torch.randn(5, 8), edges)


def test_a_batch_of_another_shape_is_no_edge_index():
    with pytest.raises(ValueError, match=r"expected \(5,\)"):
        FLAREConv(8)(torch.randn(5, 8), torch.zeros(5, 1, dtype=torch.long))
