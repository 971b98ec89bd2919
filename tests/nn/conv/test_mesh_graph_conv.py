import copy
import pickle

import pytest
import torch

from torch_geometric_flare.nn import MeshGraphConv
from torch_geometric_flare.testing import assert_same_function


def naive(conv, x, edge_index, edge_attr):
    """One edge and one point after another."""
    source, target = edge_index.tolist()
    edges = [
        e + conv.edge_mlp(torch.cat([e, x[j], x[i]]))
        for e, j, i in zip(edge_attr, source, target, strict=True)
    ]
    out = []
    for i in range(len(x)):
        arriving = [e for e, end in zip(edges, target, strict=True) if end == i]
        summed = sum(arriving, torch.zeros_like(x[i]))
        out.append(x[i] + conv.node_mlp(torch.cat([x[i], summed])))
    return torch.stack(out), torch.stack(edges)


@pytest.mark.parametrize("mlp_layers", [1, 2])
def test_formula(mlp_layers):
    conv = MeshGraphConv(5, mlp_layers).double()
    # Some points have no edge, and edges have no second direction.
    edge_index = torch.randint(9, (2, 30))
    inputs = [torch.randn(12, 5).double(), torch.randn(30, 5).double()]
    for output in (0, 1):
        assert_same_function(
            lambda x, e, output=output: conv(x, edge_index, e)[output],
            lambda x, e, output=output: naive(conv, x, edge_index, e)[output],
            inputs,
        )


def test_the_mlps():
    conv = MeshGraphConv(5, mlp_layers=2)
    shapes = [tuple(p.shape) for p in conv.node_mlp.parameters() if p.dim() == 2]
    assert shapes == [(5, 10), (5, 5), (5, 5)]
    y = conv.edge_mlp(torch.randn(100, 15))
    torch.testing.assert_close(y.mean(1), torch.zeros(100), atol=1e-5, rtol=0)


def test_no_edges_and_no_points():
    conv = MeshGraphConv(5)
    none = torch.empty(2, 0, dtype=torch.long)
    for points in (0, 1):
        x, edges = conv(torch.randn(points, 5), none, torch.empty(0, 5))
        assert x.shape == (points, 5) and edges.shape == (0, 5)


def test_copies_reset_and_repr():
    conv = MeshGraphConv(5, mlp_layers=1)
    x, edge_index, edges = (
        torch.randn(9, 5),
        torch.randint(9, (2, 20)),
        torch.ones(20, 5),
    )
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert torch.equal(
            other(x, edge_index, edges)[0], conv(x, edge_index, edges)[0]
        )
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.fill_(7)
    conv.reset_parameters()
    for name, parameter in conv.named_parameters():
        assert not (parameter == 7).any(), name
    assert str(conv) == "MeshGraphConv(5, mlp_layers=1)"


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="channels is 0"):
        MeshGraphConv(0)
    with pytest.raises(ValueError, match="mlp_layers is 0"):
        MeshGraphConv(5, mlp_layers=0)
    edge_index = torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"edge_attr has shape \(3, 4\), .*\(3, 5\)"):
        MeshGraphConv(5)(torch.ones(4, 5), edge_index, torch.ones(3, 4))
    with pytest.raises(ValueError, match=r"x has shape \(4, 6\)"):
        MeshGraphConv(5)(torch.ones(4, 6), edge_index, torch.ones(3, 5))
