"""`FLAREConv` between points of two kinds, each with channels of its own."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from torch_geometric_flare.functional import reference_flare_attention
from torch_geometric_flare.nn import FLAREConv, ResidualBlock

SOURCES = torch.tensor([0] * 20 + [1] * 3 + [3] * 17)
QUERIES = torch.tensor([0] * 5 + [1] * 20 + [3] * 5)


def conv_of(in_channels=(6, 3), **options):
    torch.manual_seed(0)
    conv = FLAREConv(in_channels, 8, heads=2, num_latents=5, **options).double()
    with torch.no_grad():
        for parameter in conv.parameters():
            if not is_lazy(parameter):
                parameter.normal_(std=0.5)
    return conv


def pair():
    return torch.randn(40, 6).double(), torch.randn(30, 3).double()


def heads(rows):
    return rows.view(1, -1, 2, 4).transpose(1, 2)


def test_formula():
    conv = conv_of()
    source, query = pair()
    k, v = heads(conv.key_mlp(source)), heads(conv.value_mlp(source))
    z = (conv.latents @ k.mT).softmax(-1) @ v
    y = (heads(conv.query_mlp(query)) @ conv.latents.mT).softmax(-1) @ z
    expected = conv.out(y[0].transpose(0, 1).flatten(1))
    torch.testing.assert_close(conv((source, query)), expected)
    # With one MLP for both it is the attention of one kind of points.
    conv = conv_of((6, 6))
    conv.query_mlp.load_state_dict(conv.key_mlp.state_dict())
    y = reference_flare_attention(
        conv.latents, heads(conv.key_mlp(source)), heads(conv.value_mlp(source))
    )
    expected = conv.out(y[0].transpose(0, 1).flatten(1))
    torch.testing.assert_close(conv((source, source)), expected)


@pytest.mark.parametrize("chunk_size", [None, 7])
def test_batch_mates_and_chunks_change_nothing(chunk_size):
    conv = conv_of(chunk_size=chunk_size)
    source, query = (x.requires_grad_() for x in pair())
    y = conv((source, query), (SOURCES, QUERIES))
    conv.chunk_size = None
    alone = [
        conv((source[graph == SOURCES], query[graph == QUERIES])) for graph in (0, 1, 3)
    ]
    torch.testing.assert_close(y, torch.cat(alone))
    wanted = torch.autograd.grad(torch.cat(alone).cos().sum(), [source, query])
    found = torch.autograd.grad(y.cos().sum(), [source, query])
    torch.testing.assert_close(found, wanted)


def test_gradients_reach_every_parameter():
    conv = conv_of()
    conv(pair()).square().sum().backward()
    for name, parameter in conv.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_encode_then_decode():
    conv = conv_of()
    source, query = pair()
    state = conv.encode(source, SOURCES, 4)
    torch.testing.assert_close(
        conv.decode(state, query, QUERIES), conv((source, query), (SOURCES, QUERIES))
    )


@pytest.mark.parametrize("in_channels", [(-1, -1), (6, -1), (-1, 3)])
def test_lazy(in_channels):
    conv, x = conv_of(in_channels), pair()
    assert str(conv) == f"FLAREConv({in_channels}, 8, heads=2, num_latents=5)"
    assert any(is_lazy(p) for p in copy.deepcopy(conv).parameters())
    assert conv(x).shape == (30, 8)
    assert conv.in_channels == (6, 3) and not any(map(is_lazy, conv.parameters()))
    fresh = conv_of(in_channels)
    fresh.load_state_dict(conv.state_dict())
    assert fresh.in_channels == (6, 3)
    assert torch.equal(fresh(x), conv(x))


def test_reset_parameters_changes_every_parameter():
    conv = conv_of()
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.fill_(7)
    conv.reset_parameters()
    for name, parameter in conv.named_parameters():
        assert not (parameter == 7).any(), name


def test_what_does_not_fit():
    conv = conv_of()
    source, query = pair()
    for call in (conv, conv.attention_weights):
        with pytest.raises(ValueError, match=r"in_channels is \(6, 3\): pass a pair"):
            call(source)
    lazy = conv_of((-1, -1))
    with pytest.raises(ValueError, match="x is one set of points"):
        lazy(source)
    assert lazy.in_channels == (-1, -1)
    with pytest.raises(ValueError, match=r"\(30, 3\), expected \[N, 6\]"):
        conv((query, source))
    with pytest.raises(ValueError, match=r"\(40, 6\), expected \[N, 3\]"):
        conv((source, source))
    block = ResidualBlock(8, FLAREConv((8, 8), 8), nn.Identity())
    with pytest.raises(ValueError, match="x is one set of points"):
        block(torch.randn(5, 8))
    with pytest.raises(ValueError, match="or a pair of those of source and query"):
        FLAREConv((6, 3, 2), 8)
