import threading

import pytest
import torch

from torch_geometric_flare.functional import (
    attention,
    flare_attention,
    naive_flare_attention,
    tied,
)
from torch_geometric_flare.functional.threads import over_ranges
from torch_geometric_flare.testing import assert_same_function


@pytest.fixture(params=[1, 2, 3], ids=lambda n: f"{n}_threads")
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(tied, "_BLOCK_ELEMENTS", 1)  # 64 points, the least


def draw(points, *, graphs=1, heads=3, latents=5, width=4, dtype=torch.float64):
    q = torch.randn(graphs, heads, latents, width, dtype=dtype)
    k, v = torch.randn(2, graphs, points, heads, width, dtype=dtype).transpose(2, 3)
    return q, k, v


@pytest.mark.parametrize("points", [1, 64, 65, 500])
@pytest.mark.parametrize("width", [1, 4, 16])
def test_equals_naive_twin(points, width, threads, small_blocks):
    assert_same_function(
        lambda q, k, v: tied.tied_attention(q, k, v, 0.7),
        lambda q, k, v: naive_flare_attention(q, k, v, scale=0.7),
        draw(points, width=width, graphs=2),
    )


def test_a_single_block_is_kept(threads):
    q, k, v = draw(500)
    k.requires_grad_()
    y = tied.tied_attention(q, k, v, 1.0)
    *_, kept = y.grad_fn.saved_tensors
    torch.testing.assert_close(kept, (k @ q.mT).exp()[0])
    assert_same_function(
        lambda *a: tied.tied_attention(*a, 1.0), naive_flare_attention, (q, k, v)
    )


def test_second_order(small_blocks):
    assert_same_function(
        lambda q, k, v: tied.tied_attention(q, k, v, 0.7),
        lambda q, k, v: naive_flare_attention(q, k, v, scale=0.7),
        draw(130),
        second_order=True,
    )


def test_memory_layout_of_inputs_and_gradient_does_not_matter(small_blocks):
    q, k, v = draw(200)
    assert_same_function(
        lambda q, k, v: tied.tied_attention(q, k.contiguous(), v, 1.0).contiguous(),
        naive_flare_attention,
        (q, k, v),
    )
    y = tied.tied_attention(q, k.requires_grad_(), v, 1.0)
    y.sum().backward()  # an expanded gradient


def test_modes_and_callers(threads, small_blocks):
    q, k, v = draw(300)
    expected = naive_flare_attention(q, k, v)
    with torch.inference_mode():
        torch.testing.assert_close(tied.tied_attention(q, k, v, 1.0), expected)
    with torch.no_grad():
        torch.testing.assert_close(tied.tied_attention(q, k, v, 1.0), expected)
    found = []

    def other_thread():
        found.append(tied.tied_attention(q, k, v, 1.0))

    callers = [threading.Thread(target=other_thread) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for y in found:
        torch.testing.assert_close(y, expected)
    assert torch.get_num_threads() == threads


def test_range_decides(monkeypatch):
    q, k, v = draw(2000, dtype=torch.float32)
    q = q / torch.linalg.vector_norm(q, dim=-1).amax()
    k = k / torch.linalg.vector_norm(k, dim=-1).amax()
    assert tied.in_range(39 * q, k, 1.0) and tied.in_range(q, k, -39.0)
    assert not tied.in_range(41 * q, k, 1.0)
    assert not tied.in_range(q * torch.nan, k, 1.0)
    assert not tied.in_range(q, k[:, :, :0], 1.0)

    calls = []
    monkeypatch.setattr(
        attention,
        "tied_attention",
        lambda *a: calls.append(a) or tied.tied_attention(*a),
    )
    monkeypatch.setattr(attention, "prefers_tied", lambda *a: True)
    for factor, expected_calls in ((30, 1), (60, 1), (1e4, 1)):
        y = flare_attention(factor * q, k, v)
        twin = naive_flare_attention(factor * q.double(), k.double(), v.double())
        torch.testing.assert_close(y.double(), twin, atol=1e-4, rtol=1e-3)
        assert len(calls) == expected_calls


@pytest.mark.parametrize("direction", [-1, 1])
def test_scores_at_the_end_of_the_range(direction):
    # All scores near the limit, tiny gradients: nothing may over- or underflow.
    q = torch.full((1, 2, 8, 4), direction * 1.0)
    k = torch.full((1, 2, 4000, 4), 39.0 / 4) + 0.01 * torch.randn(1, 2, 4000, 4)
    v = torch.randn(1, 2, 4000, 4)
    assert tied.in_range(q, k, 1.0)
    inputs = [t.requires_grad_() for t in (q, k, v)]
    grad = 1e-7 * torch.randn(1, 2, 4000, 4)
    found = torch.autograd.grad(tied.tied_attention(*inputs, 1.0), inputs, grad)
    doubles = [t.detach().double().requires_grad_() for t in inputs]
    wanted = torch.autograd.grad(
        naive_flare_attention(*doubles), doubles, grad.double()
    )
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(
            a.double(), b, atol=1e-3 * b.abs().max().item(), rtol=0
        )


def test_ranges_cover_everything_once(threads):
    for length in (1, 10, 64, 65, 1000):
        ranges = over_ranges(lambda *r: r, length, 32)
        covered = [i for start, stop in ranges for i in range(start, stop)]
        assert covered == list(range(length))
        assert len(ranges) <= 4 * threads


def test_an_error_in_a_thread_reaches_the_caller(threads):
    def fail(start, stop):
        raise ArithmeticError("from a thread")

    with pytest.raises(ArithmeticError, match="from a thread"):
        over_ranges(fail, 1000, 10)
