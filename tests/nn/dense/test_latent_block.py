import pytest
import torch
from torch import nn
from torch.nn.functional import gelu, layer_norm

from torch_geometric_flare.nn.dense.latent_block import LatentBlock
from torch_geometric_flare.testing import assert_same_function


def block_of(act, qkv_bias):
    block = LatentBlock(8, 2, 12, act, qkv_bias).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(std=0.6)
    return block


def transcription(block, z, approximate):
    """The formulas, one graph and one head after another."""
    out = []
    for graph in z:
        norm = block.attention_norm
        x = layer_norm(graph, (8,), norm.weight, norm.bias)
        x = x @ block.qkv.weight.T
        if block.qkv.bias is not None:
            x = x + block.qkv.bias
        heads = []
        for h in range(2):
            q, k, v = (x[:, 8 * i + 4 * h : 8 * i + 4 * h + 4] for i in range(3))
            heads.append((q @ k.T / 2).softmax(dim=1) @ v)
        graph = graph + torch.cat(heads, 1) @ block.out.weight.T + block.out.bias
        norm = block.feed_forward_norm
        x = layer_norm(graph, (8,), norm.weight, norm.bias)
        first, second = block.feed_forward.layers
        x = gelu(x @ first.weight.T + first.bias, approximate=approximate)
        out.append(graph + x @ second.weight.T + second.bias)
    return torch.stack(out)


@pytest.mark.parametrize(
    ("act", "approximate", "qkv_bias"),
    [("gelu", "tanh", False), (nn.GELU(), "none", True)],
)
def test_formula(act, approximate, qkv_bias):
    block = block_of(act, qkv_bias)
    z = torch.randn(3, 5, 8, dtype=torch.float64)
    assert_same_function(
        block, lambda z: transcription(block, z, approximate), [z], second_order=True
    )


def test_a_ratio_of_one_adds_no_residual():
    block = LatentBlock(8, 2, 8)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
    z = torch.randn(2, 5, 8)
    assert torch.equal(block(z), z)


def test_no_graphs():
    z = torch.randn(0, 5, 8, dtype=torch.float64, requires_grad=True)
    y = block_of("gelu", True)(z)
    assert y.shape == z.shape
    y.sum().backward()


def test_reset_parameters_changes_every_parameter():
    block = LatentBlock(8, 2, 16)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.fill_(7)
    block.reset_parameters()
    for name, parameter in block.named_parameters():
        assert not (parameter == 7).any(), name
