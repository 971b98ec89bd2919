import copy

import pytest
import torch

from torch_geometric_flare import FLAREConv, PointBatch
from torch_geometric_flare.functional import (
    SoftmaxState,
    causal_flare_attention,
    reference_causal_flare_attention,
)
from torch_geometric_flare.nn import CausalFLAREConv, grow_latents
from torch_geometric_flare.testing import assert_batch_invariant

SIZES = (1, 0, 23, 7, 0, 300)
BATCH = torch.arange(len(SIZES)).repeat_interleave(torch.tensor(SIZES))


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def conv_of(*args, **kwargs):
    """With parameters large enough for attention to be far from uniform."""
    conv = CausalFLAREConv(*args, heads=2, num_latents=5, **kwargs).double()
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.normal_(std=0.5)
    return conv


def by_stepping(conv, x, state=None):
    rows = []
    for row in x.split(1):
        y, state = conv.step(row, state)
        rows.append(y)
    return torch.cat(rows), state


def assert_causal(module, x, step):
    """Later steps reach no output before them, and no gradient comes back."""
    x = x.clone().requires_grad_()
    y = module(x)
    (gradient,) = torch.autograd.grad(y[:step].square().sum(), x)
    assert (gradient[step:] == 0).all() and gradient[:step].any(dim=1).all()
    changed = torch.cat([x[:step], x[step:] + 1])
    torch.testing.assert_close(module(changed)[:step], y[:step])


def test_formula():
    conv = conv_of(8, 12, head_channels=6, scale=0.3)
    x = draw(40, 8)
    inner = conv.conv
    k, v = (
        mlp(x).view(1, 40, 2, 6).transpose(1, 2)
        for mlp in (inner.key_mlp, inner.value_mlp)
    )
    y = reference_causal_flare_attention(inner.latents, k, v, scale=0.3)
    expected = inner.out(y[0].transpose(0, 1).flatten(1))
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize("step", [1, 20, 64, 99])
def test_no_step_sees_a_later_one(step):
    assert_causal(conv_of(8, block_size=16), draw(100, 8), step)


def test_the_law_notices_a_look_ahead():
    with pytest.raises(AssertionError):
        assert_causal(conv_of(8).conv, draw(100, 8), 20)


def test_the_last_step_is_that_of_the_operator_without_order():
    conv, x = conv_of(8), draw(100, 8)
    assert isinstance(conv.conv, FLAREConv)
    torch.testing.assert_close(conv(x)[-1], conv.conv(x)[-1])
    assert (conv(x)[:-1] - conv.conv(x)[:-1]).abs().max() > 0.01


@pytest.mark.parametrize("block_size", [1, 7, 64, 1000])
def test_stepping_one_by_one(block_size):
    conv, x = conv_of(8, block_size=block_size), draw(150, 8).requires_grad_()
    expected = conv(x)
    y, state = by_stepping(conv, x)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(tuple(state), tuple(conv.prefill(x)[1]))
    wanted = [x, *conv.parameters()]
    for found, gradient in zip(
        torch.autograd.grad(y.sin().sum(), wanted),
        torch.autograd.grad(expected.sin().sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(found, gradient)


@pytest.mark.parametrize("cut", [0, 1, 40, 99])
def test_prefill_in_parts(cut):
    conv, x = conv_of(8, block_size=16), draw(100, 8)
    expected, state = conv.prefill(x)
    first, before = conv.prefill(x[:cut])
    second, after = conv.prefill(x[cut:], state=before)
    torch.testing.assert_close(torch.cat([first, second]), expected)
    torch.testing.assert_close(tuple(after), tuple(state))
    assert after.value.shape == (1, 2, 5, 4) and after.lse.shape == (1, 2, 5)


@pytest.mark.parametrize("sizes", [SIZES, (7, 7, 7), (10, 900, 20, 905)])
def test_batch_invariant(sizes):
    assert_batch_invariant(conv_of(8, block_size=16), 8, sizes)


def test_states_of_a_ragged_batch():
    conv, x = conv_of(8, block_size=16), draw(len(BATCH), 8)
    _, state = conv.prefill(x, BATCH, len(SIZES))
    more = draw(len(SIZES), 8)
    y, after = conv.step(more, state)
    again, _ = conv.prefill(more, torch.arange(len(SIZES)), state=state)
    torch.testing.assert_close(again, y)
    for i, steps in enumerate(x.split(SIZES)):
        alone, last = conv.prefill(torch.cat([steps, more[i : i + 1]]))
        torch.testing.assert_close(y[i], alone[-1])
        for part, whole in zip(last, after, strict=True):
            torch.testing.assert_close(whole[i : i + 1], part)


def test_layout_instead_of_batch_vector():
    conv, x = conv_of(8), draw(len(BATCH), 8)
    layout = PointBatch.from_batch(x, BATCH)
    y = layout.unsort(conv(layout.sort(x), layout))
    torch.testing.assert_close(y, conv(x, BATCH))
    with pytest.raises(ValueError, match="weight"):
        conv(x, layout.weighted(torch.ones(len(x))))


def test_no_steps_at_all():
    conv = conv_of(8)
    y, state = conv.prefill(draw(0, 8), torch.empty(0, dtype=torch.long), 3)
    assert y.shape == (0, 8) and state.value.shape == (3, 2, 5, 4)
    assert (state.lse == -torch.inf).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision(dtype):
    conv, x = conv_of(8, qk_norm=True), draw(200, 8)
    expected = conv(x)
    low, x = copy.deepcopy(conv).to(dtype), x.to(dtype)
    tolerance = (1e-5 if dtype == torch.float32 else 0.1) * expected.abs().max().item()
    y, state = low.prefill(x)
    stepped, _ = by_stepping(low, x)
    assert y.dtype == stepped.dtype == dtype and state.value.dtype == torch.float32
    for found in (y, stepped):
        torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=0)


def test_a_state_in_double_precision_stays_so():
    conv, x = conv_of(8).float(), draw(30, 8).float()
    _, state = conv.prefill(x[:20])
    y, after = by_stepping(conv, x[20:], SoftmaxState(*(t.double() for t in state)))
    assert y.dtype == torch.float32
    assert after.value.dtype == after.lse.dtype == torch.float64
    expected = conv(x)[20:]
    tolerance = 1e-5 * expected.abs().max().item()
    torch.testing.assert_close(y, expected, atol=tolerance, rtol=0)


def test_autocast():
    conv, x = conv_of(8).float(), torch.randn(100, 8, requires_grad=True)
    expected = conv(x)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = conv.prefill(x)
        step, after = conv.step(x[:1], state)
    assert y.dtype == step.dtype == torch.bfloat16
    assert state.value.dtype == after.value.dtype == torch.float32
    tolerance = 0.1 * expected.abs().max().item()
    torch.testing.assert_close(y.float(), expected, atol=tolerance, rtol=0)
    y.float().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in conv.parameters())


@pytest.mark.slow
@pytest.mark.skipif(
    torch.__version__ < "2.9",
    reason="this torch compiles products of expanded tensors wrong",
)
def test_compile_without_graph_break():
    conv, x = conv_of(8, block_size=16), draw(50, 8)
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), conv(x))
    first = torch.autograd.grad(compiled(x).cos().sum(), conv.conv.latents)
    second = torch.autograd.grad(conv(x).cos().sum(), conv.conv.latents)
    torch.testing.assert_close(first, second)


def test_growth_changes_nothing():
    conv, x = conv_of(8), draw(100, 8)
    grown = grow_latents(conv, 3)
    torch.testing.assert_close(grown(x), conv(x))
    assert str(grown) == "CausalFLAREConv(8, 8, heads=2, num_latents=15)"


def test_reset_parameters_changes_every_parameter():
    conv = CausalFLAREConv(8, heads=2, num_latents=5, qk_norm=True)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.fill_(7)
    conv.reset_parameters()
    assert not any((p == 7).any() for p in conv.parameters())


def test_errors():
    conv = CausalFLAREConv(8, heads=2, num_latents=5)
    x = torch.randn(5, 8)
    with pytest.raises(ValueError, match="block_size is 0"):
        CausalFLAREConv(8, block_size=0)
    with pytest.raises(ValueError, match="in_channels is -1"):
        CausalFLAREConv(-1, 8)
    with pytest.raises(ValueError, match="unsorted"):
        conv(x, torch.tensor([0, 1, 0, 0, 0]))
    with pytest.raises(ValueError, match=r"x has shape \(5, 7\)"):
        conv.step(x[:, :7])
    with pytest.raises(ValueError, match="CausalFLAREConv takes no edge_index"):
        conv(x, torch.zeros(2, 4, dtype=torch.long))
    _, state = conv.step(x)
    for call in (conv.step, conv.prefill):
        with pytest.raises(ValueError, match=r"\(5, 2, 5, 4\)"):
            call(x[:3], state=state)


def test_repr():
    expected = "CausalFLAREConv(16, 32, heads=8, num_latents=64)"
    assert str(CausalFLAREConv(16, 32)) == expected


def test_ten_thousand_steps_in_single_precision():
    """Rounding does not pile up: neither in blocks nor over single steps."""
    q = draw(2, 5, 4)
    k, v = draw(2, 1, 2, 10_000, 4)
    expected = causal_flare_attention(q, k, v)
    y = causal_flare_attention(q.float(), k.float(), v.float())
    torch.testing.assert_close(y.double(), expected, atol=1e-5, rtol=0)
