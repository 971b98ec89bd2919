"""Latents shared by the heads, and transformer blocks among the latents."""

import pytest
import torch
from torch.nn.functional import gelu, layer_norm

from torch_geometric_flare import FLARE, FLAREConv
from torch_geometric_flare.testing import (
    assert_batch_invariant,
    assert_chunk_invariant,
    assert_permutation_equivariant,
    assert_point_parallel,
)

OPTIONS = [
    {"shared_latents": True},
    {"latent_blocks": 2},
    {"shared_latents": True, "latent_blocks": 1, "qk_norm": True},
]


def conv_of(**options):
    conv = FLAREConv(6, heads=2, num_latents=5, scale=0.7, **options).double()
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.normal_(std=0.5)
    return conv


def attend(q, k, v, scale):
    return (scale * q @ k.T).softmax(dim=1) @ v


def dense(conv, x):
    """The formulas for one graph, one head after another, with all matrices formed."""
    latents = conv.query_norm(conv.latents)
    keys, values, gathered = [], [], []
    for h in range(2):
        q, part = latents[0 if conv.shared_latents else h], slice(3 * h, 3 * h + 3)
        keys.append(conv.key_norm(conv.key_mlp(x)[:, part]))
        values.append(conv.value_mlp(x)[:, part])
        gathered.append(attend(q, keys[h], values[h], 0.7))
    z = torch.cat(gathered, dim=1)  # [M, H D]
    for block in conv.latent_mixer.blocks if conv.latent_mixer else ():
        norm = block.attention_norm
        q, k, v = block.qkv(layer_norm(z, (6,), norm.weight, norm.bias)).chunk(3, 1)
        heads = [
            attend(q[:, p], k[:, p], v[:, p], 3**-0.5) for p in (slice(3), slice(3, 6))
        ]
        z = z + block.out(torch.cat(heads, dim=1))
        norm = block.feed_forward_norm
        first, second = block.feed_forward.layers
        inner = first(layer_norm(z, (6,), norm.weight, norm.bias))
        z = z + second(gelu(inner, approximate="tanh"))
    y = []
    for h in range(2):
        q = latents[0 if conv.shared_latents else h]
        y.append(attend(keys[h], q, z[:, 3 * h : 3 * h + 3], 0.7))
    return conv.out(torch.cat(y, dim=1))


@pytest.mark.parametrize("options", OPTIONS)
def test_formula(options):
    conv, x = conv_of(**options), torch.randn(40, 6, dtype=torch.float64)
    x.requires_grad_()
    found, wanted = (
        [y, *torch.autograd.grad(y.cos().sum(), [x, *conv.parameters()])]
        for y in (conv(x), dense(conv, x))
    )
    torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("options", OPTIONS)
def test_laws(options):
    conv = conv_of(**options)
    assert_batch_invariant(conv, 6, (1, 2, 63, 0, 300), atol=1e-9)
    assert_chunk_invariant(conv, 6, 7, (0, 0, 63, 3, 4, 60), atol=1e-9)
    x = torch.randn(63, 6, dtype=torch.float64)
    assert_permutation_equivariant(conv, x, torch.tensor([0] * 13 + [2] * 50))
    assert_point_parallel(conv, 6, sizes=(20, 0, 40, 3), atol=1e-9)


@pytest.mark.parametrize("options", OPTIONS)
def test_states_of_parts_merge_before_the_blocks(options):
    conv, x = conv_of(**options), torch.randn(40, 6, dtype=torch.float64)
    state = conv.encode(x[:15]).merge(conv.encode(x[15:]))
    torch.testing.assert_close(conv.decode(state, x), conv(x))
    torch.testing.assert_close(conv((x, x)), conv(x))


def test_one_set_of_latents_for_all_heads():
    conv = FLAREConv(16, heads=4, num_latents=5, shared_latents=True)
    own = FLAREConv(16, heads=4, num_latents=5)
    assert conv.latents.shape == (1, 5, 4)
    own.load_state_dict(
        {**conv.state_dict(), "latents": conv.latents.expand(4, -1, -1)}
    )
    x = torch.randn(30, 16)
    assert torch.equal(own(x), conv(x))


def test_the_blocks_change_the_output():
    conv, x = conv_of(latent_blocks=1), torch.randn(40, 6, dtype=torch.float64)
    mixed, conv.latent_mixer = conv(x), None
    assert not torch.allclose(mixed, conv(x))


def test_parameters_of_the_network():
    plain, shared, mixed = (
        sum(p.numel() for p in FLARE(3, 16, 1, 3, 4, 8, **given).parameters())
        for given in ({}, {"shared_latents": True}, {"latent_blocks": 2})
    )
    assert plain - shared == 3 * (16 - 4) * 8
    block = 2 * 32 + 3 * 16 * 17 + 16 * 17 + 2 * 16 * 17
    assert mixed - plain == 3 * 2 * block


@pytest.mark.parametrize("value", [-1, 1.5, True])
def test_a_wrong_number_of_blocks(value):
    with pytest.raises(ValueError, match=f"latent_blocks is {value}"):
        FLAREConv(8, latent_blocks=value)
