import copy
import pickle

import pytest
import torch
from torch import nn
from torch_geometric.nn import GINEConv, GPSConv, SAGEConv

from torch_geometric_flare.nn import FLAREConv, GPSFLAREConv
from torch_geometric_flare.testing import assert_batch_invariant

EDGES = torch.tensor([[0, 1, 2, 3, 5, 6], [1, 2, 3, 0, 6, 5]])
BATCH = torch.tensor([0, 0, 0, 0, 0, 1, 1])


class OnChains(nn.Module):
    """The layer on edges from each point to the next of its graph."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x, batch=None, batch_size=None):
        rows = torch.arange(max(len(x) - 1, 0))
        if batch is not None:
            rows = rows[batch[rows] == batch[rows + 1]]
        edge_index = torch.stack([rows, rows + 1])
        return self.conv(x, edge_index, batch, batch_size)


def conv_of(**options):
    torch.manual_seed(0)
    local = options.pop("conv", SAGEConv(8, 8))
    conv = GPSFLAREConv(8, local, heads=2, num_latents=5, **options).double()
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return conv


def points():
    return torch.randn(7, 8).double()


def test_formula():
    conv, x = conv_of(), points()
    local = conv.norm1(x + conv.conv(x, EDGES))
    h = local + conv.norm2(x + conv.attn(x, BATCH))
    expected = conv.norm3(h + conv.mlp(h))
    torch.testing.assert_close(conv(x, EDGES, BATCH), expected)


@pytest.mark.parametrize("norm", ["layer_norm", "graph_norm", "batch_norm", None])
def test_it_is_the_layer_of_pyg_but_for_the_attention(norm):
    """With an attention that gives nothing, the layer of PyG gives the same."""
    x = points()
    kwargs = {"mode": "node"} if norm == "layer_norm" else None
    theirs = GPSConv(8, SAGEConv(8, 8), norm=norm, norm_kwargs=kwargs).double()
    nn.init.zeros_(theirs.attn.out_proj.weight)
    ours = conv_of(norm=norm)
    ours.load_state_dict(
        {k: v for k, v in theirs.state_dict().items() if not k.startswith("attn")},
        strict=False,
    )
    nn.init.zeros_(ours.attn.out.weight)
    nn.init.zeros_(ours.attn.out.bias)
    torch.testing.assert_close(ours(x, EDGES, BATCH), theirs(x, EDGES, BATCH))


def test_another_attention_in_the_layer_of_pyg_is_left_out():
    conv, x = GPSConv(8, SAGEConv(8, 8)), points().float()
    conv.attn = FLAREConv(8, heads=2)
    conv(x, EDGES, BATCH).square().sum().backward()
    assert all(parameter.grad is None for parameter in conv.attn.parameters())


@pytest.mark.parametrize("norm", ["layer_norm", None])
def test_batch_invariant(norm):
    conv = OnChains(conv_of(norm=norm))
    assert_batch_invariant(conv, 8, (1, 2, 63, 0, 100), atol=1e-9)


def test_gradients_reach_every_parameter():
    conv = conv_of()
    conv(points(), EDGES, BATCH).square().sum().backward()
    for name, parameter in conv.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_without_a_local_layer():
    conv, x = conv_of(conv=None), points()
    h = conv.norm2(x + conv.attn(x, BATCH))
    torch.testing.assert_close(conv(x, None, BATCH), conv.norm3(h + conv.mlp(h)))


def test_arguments_go_where_they_belong():
    local = GINEConv(nn.Linear(8, 8), edge_dim=3)
    conv = conv_of(conv=local, attn_kwargs={"kv_layers": -1, "bias": False})
    assert conv.attn.kv_layers == -1 and conv.attn.out.bias is None
    edge_attr = torch.randn(6, 3).double()
    x = points()
    y = conv(x, EDGES, BATCH, edge_attr=edge_attr)
    assert not torch.allclose(y, conv(x, EDGES, BATCH, edge_attr=2 * edge_attr))


def test_dropout_is_of_training_alone():
    conv, x = conv_of(dropout=0.5), points()
    assert not torch.equal(conv(x, EDGES), conv(x, EDGES))
    conv.eval()
    assert torch.equal(conv(x, EDGES), conv(x, EDGES))


def test_round_trips():
    conv, x = conv_of(), points()
    fresh = GPSFLAREConv(8, SAGEConv(8, 8), heads=2, num_latents=5).double()
    fresh.load_state_dict(conv.state_dict())
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv)), fresh):
        assert torch.equal(other(x, EDGES, BATCH), conv(x, EDGES, BATCH))


@pytest.mark.parametrize("local", [SAGEConv(8, 8), None])
def test_reset_parameters_changes_every_parameter(local):
    conv = conv_of(conv=local)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.fill_(7)
    conv.reset_parameters()
    for name, parameter in conv.named_parameters():
        assert not (parameter == 7).any(), name


@pytest.mark.slow
def test_compile():
    conv, x = conv_of(), points()
    compiled = torch.compile(conv, backend="aot_eager")
    torch.testing.assert_close(compiled(x, EDGES), conv(x, EDGES))


def test_what_does_not_fit():
    with pytest.raises(
        ValueError, match="channels is 8, which is not divisible by heads=3"
    ):
        GPSFLAREConv(8, None, heads=3)
    with pytest.raises(ValueError, match="num_latents is 0"):
        GPSFLAREConv(8, None, num_latents=0)
    with pytest.raises(ValueError, match=r"expected \[N, 8\]"):
        conv_of()(torch.randn(7, 5).double(), EDGES)
    with pytest.raises(ValueError, match="unsorted"):
        conv_of()(points(), EDGES, BATCH.flip(0))


def test_repr():
    conv = GPSFLAREConv(8, SAGEConv(8, 8), heads=2)
    local = "SAGEConv(8, 8, aggr=mean)"
    assert str(conv) == f"GPSFLAREConv(8, conv={local}, heads=2, num_latents=64)"
