from functools import reduce

import pytest
import torch

from torch_geometric_flare.functional import (
    SoftmaxState,
    flare_attention,
    flare_decode,
    flare_encode,
    reference_flare_attention,
    reference_flare_weights,
)
from torch_geometric_flare.kernels.tasks import RowTasks
from torch_geometric_flare.testing import assert_same_function


def draw(*, graphs=2, heads=3, latents=5, points=63, width=4, dtype=torch.float64):
    q = torch.randn(heads, latents, width, dtype=dtype)
    k, v = torch.randn(2, graphs, heads, points, width, dtype=dtype)
    return q, k, v


def some_mask(graphs=2, points=63):
    mask = torch.rand(graphs, points) > 0.3
    mask[0] = False  # a graph without points
    return mask


def real_rows(mask, y):
    return y if mask is None else y * mask[:, None, :, None]


def in_chunks(q, k, v, *, scale, mask, chunk_size):
    """Encode chunks of points, merge their states, decode."""
    starts = range(0, k.size(2), chunk_size)
    states = [
        flare_encode(
            q,
            k[:, :, start : start + chunk_size],
            v[:, :, start : start + chunk_size],
            scale=scale,
            mask=None if mask is None else mask[:, start : start + chunk_size],
        )
        for start in starts
    ]
    z = reduce(SoftmaxState.merge, states).value
    chunks = k.split(chunk_size, dim=2)
    return torch.cat([flare_decode(q, c, z, scale=scale) for c in chunks], dim=2)


@pytest.mark.parametrize("chunk_size", [1, 10, 63, 1000])
@pytest.mark.parametrize("masked", [False, True])
def test_chunks_equal_the_reference(chunk_size, masked):
    mask = some_mask() if masked else None
    assert_same_function(
        lambda q, k, v: real_rows(
            mask, in_chunks(q, k, v, scale=0.37, mask=mask, chunk_size=chunk_size)
        ),
        lambda q, k, v: real_rows(
            mask, reference_flare_attention(q, k, v, scale=0.37, mask=mask)
        ),
        draw(),
        second_order=True,
    )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_equals_the_reference(masked, scale):
    mask = some_mask() if masked else None
    assert_same_function(
        lambda q, k, v: real_rows(
            mask, flare_attention(q, k, v, scale=scale, mask=mask)
        ),
        lambda q, k, v: real_rows(
            mask, reference_flare_attention(q, k, v, scale=scale, mask=mask)
        ),
        draw(),
        second_order=True,
    )


def test_encode_then_decode_equals_the_reference():
    def two_steps(q, k, v):
        return flare_decode(q, k, flare_encode(q, k, v, scale=0.5).value, scale=0.5)

    assert_same_function(
        two_steps, lambda q, k, v: reference_flare_attention(q, k, v, scale=0.5), draw()
    )


def test_encode_in_blocks_equals_explicit_scores(monkeypatch):
    # Blocks of 4 points: 2 graphs x 3 heads x 5 latents are 30 scores per point.
    module = "torch_geometric_flare.functional.attention.sdpa"
    monkeypatch.setattr(f"{module}._BLOCK_ELEMENTS", 4 * 30)

    def flat(state):
        return torch.cat([state.value.flatten(), state.lse.flatten()])

    def explicit(q, k, v):
        scores = 0.7 * q @ k.mT
        lse = scores.logsumexp(-1)
        return torch.cat([(scores.softmax(-1) @ v).flatten(), lse.flatten()])

    assert_same_function(
        lambda q, k, v: flat(flare_encode(q, k, v, scale=0.7)), explicit, draw()
    )


def test_rows_of_the_operator_sum_to_one_and_rank_is_bounded():
    q, k, _ = draw(graphs=1, heads=1, latents=5, points=40)
    gather, scatter = reference_flare_weights(q, k)
    operator = (scatter @ gather)[0, 0]
    torch.testing.assert_close(operator.sum(-1), torch.ones(40, dtype=torch.float64))
    assert torch.linalg.matrix_rank(operator, rtol=1e-10) == 5  # the latents


def test_literal_values():
    # One latent averages the points by softmax(0, log 3) = (1/4, 3/4).
    q = torch.ones(1, 1, 1, dtype=torch.float64)
    k = torch.tensor([0.0, 3.0], dtype=torch.float64).log().clamp(min=0)
    k = k.view(1, 1, 2, 1)
    v = torch.tensor([8.0, 4.0], dtype=torch.float64).view(1, 1, 2, 1)
    y = flare_attention(q, k, v)
    torch.testing.assert_close(y.flatten(), torch.tensor([5.0, 5.0]).double())
    state = flare_encode(q, k, v)
    assert state.lse.item() == pytest.approx(1.3862943611198906)  # log 4


@pytest.mark.parametrize("points", [0, 1])
def test_few_points(points):
    q, k, v = draw(points=points)
    v.requires_grad_()
    y = flare_attention(q, k, v)
    torch.testing.assert_close(y, v)  # a point alone receives its own value
    y.sum().backward()
    assert torch.isfinite(v.grad).all()
    state = flare_encode(q, k, v)
    assert torch.equal(state.lse == -torch.inf, torch.full((2, 3, 5), points == 0))


@pytest.mark.parametrize("masked", [False, True])
def test_double_backward(masked):
    mask = some_mask(points=5) if masked else None
    inputs = [t.requires_grad_() for t in draw(heads=2, latents=3, points=5, width=2)]
    assert torch.autograd.gradgradcheck(
        lambda *a: real_rows(mask, flare_attention(*a, scale=0.6, mask=mask)), inputs
    )
    assert torch.autograd.gradgradcheck(
        lambda *a: tuple(flare_encode(*a, scale=0.6)), inputs
    )


def test_gradient_of_merged_states():
    inputs = [t.requires_grad_() for t in draw(heads=2, latents=3, points=5, width=2)]

    def merged(q, k, v):
        a = flare_encode(q, k[:, :, :3], v[:, :, :3])
        b = flare_encode(q, k[:, :, 3:], v[:, :, 3:])
        return tuple(a.merge(b))

    assert torch.autograd.gradcheck(merged, inputs)
    assert torch.autograd.gradgradcheck(merged, inputs)


def test_second_backward_through_one_graph():
    inputs = [t.requires_grad_() for t in draw()]
    out = flare_attention(*inputs).sum()
    first = torch.autograd.grad(out, inputs, retain_graph=True)
    second = torch.autograd.grad(out, inputs)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_gradient_of_one_input_alone(which):
    inputs = draw()
    everything = [t.clone().requires_grad_() for t in inputs]
    wanted = torch.autograd.grad(flare_attention(*everything).cos().sum(), everything)
    one = [t.clone().requires_grad_(i == which) for i, t in enumerate(inputs)]
    flare_attention(*one).cos().sum().backward()
    torch.testing.assert_close(one[which].grad, wanted[which])


def test_under_checkpointing():
    inputs = [t.requires_grad_() for t in draw()]
    plain = torch.autograd.grad(flare_attention(*inputs).cos().sum(), inputs)
    out = torch.utils.checkpoint.checkpoint(
        flare_attention, *inputs, use_reentrant=False
    )
    again = torch.autograd.grad(out.cos().sum(), inputs)
    for a, b in zip(plain, again, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision(dtype):
    inputs = draw(points=500)
    y = flare_attention(*(t.to(dtype) for t in inputs))
    assert y.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    expected = reference_flare_attention(*inputs)
    torch.testing.assert_close(y.double(), expected, atol=tolerance, rtol=tolerance)
    state = flare_encode(*(t.to(dtype) for t in inputs))
    assert state.value.dtype == state.lse.dtype == torch.float32


def test_scores_far_outside_the_range_of_exp():
    q, k, v = draw()
    q, k = 100 * q, 100 * k
    expected = reference_flare_attention(q, k, v)
    torch.testing.assert_close(flare_attention(q, k, v), expected)
    y = in_chunks(q, k, v, scale=1.0, mask=None, chunk_size=10)
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, k, v: (q[0], k, v), r"q has shape \(5, 4\)"),
        (lambda q, k, v: (q, k[0], v), "k"),
        (lambda q, k, v: (q[:2], k, v), "heads"),
        (lambda q, k, v: (q, k, v[:, :, 1:]), r"v has shape \(2, 3, 62, 4\)"),
    ],
)
def test_shape_errors(change, message):
    with pytest.raises(ValueError, match=message):
        flare_attention(*change(*draw()))


def test_argument_errors():
    q, k, v = draw()
    with pytest.raises(ValueError, match="mask is torch.float32"):
        flare_attention(q, k, v, mask=torch.ones(2, 63))
    with pytest.raises(ValueError, match="mask is torch.bool of shape"):
        flare_attention(q, k, v, mask=torch.ones(63, dtype=torch.bool))
    with pytest.raises(ValueError, match="z has shape"):
        flare_decode(q, k, v)


def test_torch_func():
    q, k, v = draw(points=6)
    inputs = [t.clone().requires_grad_() for t in (q, k, v)]
    wanted = torch.autograd.grad(flare_attention(*inputs).cos().sum(), inputs)

    def loss(q, k, v):
        return flare_attention(q, k, v).cos().sum()

    for a, b in zip(
        torch.func.grad(loss, argnums=(0, 1, 2))(q, k, v), wanted, strict=True
    ):
        torch.testing.assert_close(a, b)
    slopes = torch.func.jacrev(lambda v: flare_encode(q, k, v).value)(v)
    assert slopes.shape == (2, 3, 5, 4, 2, 3, 6, 4)


def test_encoding_in_half_precision_is_as_accurate_as_attention():
    q, k, v = draw(points=500)
    state = flare_encode(*(t.bfloat16() for t in (8 * q, k, v)))
    exact = flare_encode(*(t.bfloat16().double() for t in (8 * q, k, v)))
    torch.testing.assert_close(state.value.double(), exact.value, atol=1e-5, rtol=1e-4)


def test_nothing_but_saved_tensors_is_kept():
    inputs = [t.requires_grad_() for t in draw()]
    saved = []

    def pack(tensor):
        saved.append(tensor.shape)
        return len(saved) - 1

    def unpack(index):
        raise AssertionError("freed")

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        y = flare_attention(*inputs)
    assert saved
    node, seen = y.grad_fn, []
    while node is not None:
        seen.append(node)
        node = node.next_functions[0][0] if node.next_functions else None
    for node in seen:
        held = [v for v in getattr(node, "__dict__", {}).values()]
        held = [v for v in held if not isinstance(v, RowTasks)]  # the layout
        assert not any(isinstance(v, (torch.Tensor, tuple, list)) for v in held), held


def _heads_first(t):
    return t.transpose(1, 2).contiguous().transpose(1, 2)


@pytest.mark.parametrize(
    "change",
    [
        _heads_first,
        lambda t: t.mT.contiguous().mT,  # a column's points side by side
        lambda t: t.repeat_interleave(2, dim=-1)[..., ::2],
    ],
)
@pytest.mark.parametrize(
    ("points", "width", "masked", "factor"),
    [(100, 8, False, 1), (600, 8, True, 1), (600, 72, False, 1), (600, 8, False, 400)],
)
def test_memory_layout_does_not_matter(change, points, width, masked, factor):
    q = factor / width**0.5 * torch.randn(2, 3, 5, width, dtype=torch.float64)
    k, v = torch.randn(2, 2, 3, points, width, dtype=torch.float64)
    mask = torch.rand(2, points) < 0.7 if masked else None
    rows = slice(None) if mask is None else mask[:, None, :, None].double()

    def attention(q, k, v):
        return (
            flare_attention(q, k, v, mask=mask) * rows
            if masked
            else (flare_attention(q, k, v))
        )

    def reference(q, k, v):
        y = reference_flare_attention(q, k, v, mask=mask)
        return y * rows if masked else y

    def changed(*tensors):
        return attention(*map(change, tensors))

    assert_same_function(changed, reference, (q, k, v), atol=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(changed(q, k, v), reference(q, k, v))
        found = flare_encode(*map(change, (q, k, v)), mask=mask)
        torch.testing.assert_close(found, flare_encode(q, k, v, mask=mask))
        torch.testing.assert_close(
            flare_decode(change(q), change(k), change(found.value)),
            flare_decode(q, k, found.value),
        )
