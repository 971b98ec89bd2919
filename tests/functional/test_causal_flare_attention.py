import pytest
import torch

from torch_geometric_flare.functional import (
    SoftmaxState,
    causal_flare_attention,
    flare_encode,
    reference_causal_flare_attention,
    reference_flare_attention,
)
from torch_geometric_flare.functional.attention import causal
from torch_geometric_flare.testing import assert_same_function


def draw(steps=63, latents=5, width=4):
    q = torch.randn(3, latents, width, dtype=torch.float64)
    k, v = torch.randn(2, 2, 3, steps, width, dtype=torch.float64)
    return q, k, v


def reference(scale):
    return lambda q, k, v: reference_causal_flare_attention(q, k, v, scale=scale)


def test_the_reference_is_the_operator_of_every_beginning():
    q, k, v = draw(9)
    y = reference_causal_flare_attention(q, k, v, scale=0.37)
    for n in range(1, 10):
        whole = reference_flare_attention(q, k[:, :, :n], v[:, :, :n], scale=0.37)
        torch.testing.assert_close(y[:, :, n - 1], whole[:, :, -1])


@pytest.mark.parametrize("steps", [1, 2, 5, 64, 63, 200])
@pytest.mark.parametrize("block_size", [1, 3, 7, 64, 1000])
@pytest.mark.parametrize("scale", [0.37, 8.0])
def test_any_block_size_equals_the_reference(steps, block_size, scale):
    assert_same_function(
        lambda q, k, v: causal_flare_attention(
            q, k, v, scale=scale, block_size=block_size
        ),
        reference(scale),
        draw(steps),
        atol=1e-9,
    )


def test_halves_for_scores_of_any_range(monkeypatch):
    """The way of steep blocks, taken by all."""
    monkeypatch.setattr(causal, "_attend_by_mask", causal._attend_by_halves)
    assert_same_function(
        lambda q, k, v: causal_flare_attention(q, k, v, block_size=13),
        reference(1.0),
        draw(100),
    )


def test_ordinary_scores_take_the_masked_form(monkeypatch):
    monkeypatch.setattr(causal, "_attend_by_halves", None)
    q, k, v = draw(100)
    y = causal_flare_attention(q, k, v, block_size=16)
    torch.testing.assert_close(y, reference_causal_flare_attention(q, k, v))


def test_steep_blocks_among_others():
    q, k, v = draw(100)
    k[0, :, 40:60] *= 1000
    assert_same_function(
        lambda *qkv: causal_flare_attention(*qkv, block_size=16),
        reference(1.0),
        (q, k, v),
        atol=1e-8,
        rtol=1e-8,
    )


def test_masked_form_alone_would_overflow(monkeypatch):
    """The negative control of the test of large scores."""
    monkeypatch.setattr(causal, "_attend_by_halves", causal._attend_by_mask)
    q, k, v = (t.float() for t in draw(200))
    y = causal_flare_attention(q, 1e3 * k, v)
    assert not torch.isfinite(y).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("order", ["random", "rising", "falling"])
def test_scores_of_ten_thousand(dtype, order):
    q, k, v = (t.to(dtype) for t in draw(200))
    k = 3e3 * k
    if order != "random":
        k = (k @ q[0, 0]).argsort(-1, descending=order == "falling")
        k = 1e4 * q[:, :1] * (k / 200).to(dtype).unsqueeze(-1)
    scores = q.double() @ k.double().mT
    assert scores.abs().max() > 8e3
    leaves = [t.requires_grad_() for t in (q, k, v)]
    y = causal_flare_attention(*leaves)
    assert torch.isfinite(y).all()
    for gradient in torch.autograd.grad(y.float().square().sum(), leaves):
        assert torch.isfinite(gradient).all()
    expected = reference_causal_flare_attention(*(t.double() for t in leaves))
    tolerance = {torch.float32: 0.02, torch.bfloat16: 0.1}[dtype]  # scores are rounded
    torch.testing.assert_close(y.double(), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("blocks", [1, 3])
def test_groups_of_blocks_computed_again_in_backward(monkeypatch, blocks):
    monkeypatch.setattr(causal, "_BLOCKS", blocks)
    assert_same_function(
        lambda q, k, v: causal_flare_attention(q, k, v, block_size=7),
        reference(1.0),
        draw(100),
        atol=1e-9,
    )


def test_after_a_state():
    q, k, v = draw(100)

    def from_state(q, k, v):
        state = flare_encode(q, k[:, :, :33], v[:, :, :33])
        return causal_flare_attention(
            q, k[:, :, 33:], v[:, :, 33:], state=state, block_size=16
        )

    assert_same_function(
        from_state,
        lambda q, k, v: reference_causal_flare_attention(q, k, v)[:, :, 33:],
        (q, k, v),
        atol=1e-9,
    )


def test_a_block_without_its_state_is_noticed(monkeypatch):
    def forget(states, first):
        empty = SoftmaxState.empty(*states.value.shape, like=states.value)
        return empty

    q, k, v = draw(100)
    monkeypatch.setattr(causal, "_prefixes", forget)
    y = causal_flare_attention(q, k, v, block_size=16)
    expected = reference_causal_flare_attention(q, k, v)
    torch.testing.assert_close(y[:, :, :16], expected[:, :, :16])
    assert (y[:, :, 16:] - expected[:, :, 16:]).abs().max() > 0.01


@pytest.mark.parametrize("count", [1, 2, 3, 8, 11])
def test_prefixes_are_running_merges(count):
    states = SoftmaxState(
        torch.randn(count, 2, 5, 4).double(), torch.randn(count, 2, 5).double()
    )
    first = SoftmaxState(
        torch.randn(1, 2, 5, 4).double(), torch.randn(1, 2, 5).double()
    )
    found = causal._prefixes(states, first)
    running = first
    for i in range(count):
        for part, wanted in zip(found, running, strict=True):
            torch.testing.assert_close(part[i : i + 1], wanted)
        running = running.merge(SoftmaxState(*(t[i : i + 1] for t in states)))


@pytest.mark.parametrize("factor", [1.0, 300.0])
def test_second_derivatives(factor):
    q, k, v = (t[:1] if t.dim() == 3 else t[:1, :1] for t in draw(9, 2, 2))
    inputs = [t.clone().requires_grad_() for t in (q, k, v)]
    assert torch.autograd.gradgradcheck(
        lambda q, k, v: causal_flare_attention(
            q, k, v, scale=factor, block_size=4
        ).sin(),
        inputs,
        atol=1e-4 * factor**2,
    )


def test_no_steps():
    q, k, v = draw(0)
    assert causal_flare_attention(q, k, v).shape == v.shape


def test_errors():
    q, k, v = draw(5)
    with pytest.raises(ValueError, match="block_size"):
        causal_flare_attention(q, k, v, block_size=0)
    with pytest.raises(ValueError, match=r"\(2, 3, 5, 4\)"):
        causal_flare_attention(q.expand(2, -1, -1, -1), k, v)
    state = flare_encode(q, k[:1], v[:1])
    with pytest.raises(ValueError, match=r"\(1, 3, 5, 4\).*\(2, 3, 5, 4\)"):
        causal_flare_attention(q, k, v, state=state)
