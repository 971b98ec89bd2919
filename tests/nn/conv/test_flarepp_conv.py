import pytest
import torch
from torch.nn.functional import layer_norm

from tests.functional.backends import supporting
from torch_geometric_flare import FLAREPPConv, PointBatch
from torch_geometric_flare.functional import attention_backend
from torch_geometric_flare.nn import ResidualBlock
from torch_geometric_flare.testing import (
    assert_batch_invariant,
    assert_chunk_invariant,
    assert_permutation_equivariant,
)

BATCH = torch.tensor([0] * 10 + [1] * 3 + [3] * 50)


def conv_of(*args, **kwargs):
    """With parameters large enough for attention to be far from uniform."""
    conv = FLAREPPConv(*args, **kwargs).double()
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.normal_(std=0.5)
    return conv


def draw(points=63, channels=8):
    return torch.randn(points, channels, dtype=torch.float64)


def queries_and_keys(conv, x):
    """The queries [H, M, D] and keys [H, N, D] of one graph, by the formulas."""

    def heads(linear):
        return linear(x).view(len(x), conv.heads, -1).transpose(0, 1)

    width = (conv.head_channels,)
    seeds = conv.seed_norm(conv.seeds)
    context = layer_norm(heads(conv.context), width)
    scale = conv.head_channels**-0.5
    dynamic = (scale * seeds @ context.mT).softmax(-1) @ context
    gate = conv.gate.sigmoid().view(-1, 1, 1)
    q = layer_norm(conv.latents, width) + gate * dynamic
    return q, conv.key_norm(heads(conv.key))


def test_formula():
    conv = conv_of(8, 12, heads=4, num_latents=5, head_channels=6)
    x = draw()
    q, k = queries_and_keys(conv, x)
    v = conv.value(x).view(63, 4, 6).transpose(0, 1)
    scores = q @ k.mT / 6**0.5
    y = scores.mT.softmax(-1) @ (scores.softmax(-1) @ v)
    torch.testing.assert_close(conv(x), conv.out(y.transpose(0, 1).flatten(1)))


@pytest.mark.parametrize("backend", supporting("attention"))
def test_ways_of_computing_agree(backend):
    conv, x = conv_of(8, heads=2, num_latents=5), draw()
    expected = conv(x, BATCH)
    with attention_backend(backend):
        torch.testing.assert_close(conv(x, BATCH), expected)


@pytest.mark.parametrize("bias", [True, False])
def test_laws(bias):
    conv = conv_of(8, heads=2, num_latents=5, bias=bias)
    assert_batch_invariant(conv, 8, (1, 2, 63, 0, 500), atol=1e-9)
    assert_chunk_invariant(conv, 8, 17, (1, 2, 63, 0, 50), atol=1e-9)
    assert_permutation_equivariant(conv, draw(), BATCH)


def test_attention_weights_are_those_of_forward():
    conv, x = conv_of(8, heads=2, num_latents=5), draw()
    gather, scatter = conv.attention_weights(x, BATCH)
    assert gather.shape == scatter.shape == (63, 2, 5)
    torch.testing.assert_close(scatter.sum(-1), torch.ones(63, 2).double())
    values = conv.value(x).view(63, 2, 4)
    y = torch.empty_like(values)
    for graph in (0, 1, 3):
        rows = graph == BATCH
        z = torch.einsum("nhm,nhd->hmd", gather[rows], values[rows])
        y[rows] = torch.einsum("nhm,hmd->nhd", scatter[rows], z)
    torch.testing.assert_close(conv.out(y.flatten(1)), conv(x, BATCH))


def test_a_closed_gate_leaves_learned_queries():
    conv, x = conv_of(8, heads=2, num_latents=5), draw()
    with torch.no_grad():
        conv.gate.fill_(-1e3)
    before = conv(x)
    with torch.no_grad():
        conv.seeds.normal_()
        conv.context.weight.normal_()
    torch.testing.assert_close(conv(x), before)


def test_in_a_residual_block():
    block = ResidualBlock(8, conv_of(8, heads=2), torch.nn.Identity()).double()
    assert block(draw(), BATCH).shape == (63, 8)
    assert block.num_encodes == 2


def test_initial_maps_are_close_to_the_identity():
    conv = FLAREPPConv(16, 12, heads=2)
    for linear in (conv.context, conv.key, conv.value):
        rest = linear.weight - torch.eye(12, 16)
        assert 0.01 < rest.std() < 0.03
        assert not linear.bias.any()
    assert 0.01 < conv.seeds.std() < 0.03 and 0.01 < conv.latents.std() < 0.03
    assert (conv.gate == 0.25).all()


def test_reset_parameters_changes_every_parameter():
    conv = FLAREPPConv(8, heads=2, num_latents=5)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.fill_(7)
    conv.reset_parameters()
    for name, parameter in conv.named_parameters():
        assert not (parameter == 7).any(), name


def test_errors():
    conv, x = conv_of(8, heads=2, num_latents=5), draw()
    with pytest.raises(ValueError, match="FLAREPPConv encodes 2 times"):
        conv((x, x))
    with pytest.raises(ValueError, match="FLAREPPConv encodes 2 times, .* the module"):
        conv.encode(x)
    state = conv.encode_rows(x, PointBatch.from_batch(x))
    with pytest.raises(ValueError, match="FLAREPPConv encodes 2 times, .* the module"):
        conv.decode(state, x)
    with pytest.raises(ValueError, match="out_channels is 8, which .*heads=3"):
        FLAREPPConv(8, heads=3)
    with pytest.raises(ValueError, match="num_latents is 0"):
        FLAREPPConv(8, num_latents=0)
    with pytest.raises(ValueError, match="chunk_size is 0"):
        FLAREPPConv(8, chunk_size=0)
    with pytest.raises(ValueError, match=r"expected \[N, 8\]"):
        conv(draw(5, 4))


def test_repr():
    conv = FLAREPPConv(8, 12, heads=2, num_latents=5)
    assert str(conv) == "FLAREPPConv(8, 12, heads=2, num_latents=5)"
