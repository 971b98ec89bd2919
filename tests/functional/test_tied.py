import threading

import pytest
import torch

from torch_geometric_flare.functional import (
    attention,
    flare_attention,
    naive_flare_attention,
    tied,
    tied_passes,
    vectors,
)
from torch_geometric_flare.functional import encode as encode_module
from torch_geometric_flare.functional.fused import softmax_attention
from torch_geometric_flare.testing import assert_same_function

pytestmark = pytest.mark.skipif(
    not vectors.is_available(), reason="there is no LLVM for this processor"
)


@pytest.fixture(params=[1, 2, 3], ids=lambda n: f"{n}_threads")
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(params=[16, 32, 64], ids=lambda n: f"{n}_bytes")
def vector_width(request, monkeypatch):
    """The code for other processors; LLVM splits vectors that are too wide here."""
    caches = (
        tied_passes._gather_code,
        tied_passes._scatter_code,
        tied_passes._gradients_code,
    )
    for cache in caches:
        cache.cache_clear()
    monkeypatch.setattr(vectors, "vector_bytes", lambda: request.param)
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def any_size(monkeypatch):
    monkeypatch.setattr(tied, "_LEAST_POINTS", 1)
    monkeypatch.setattr(tied_passes, "_LEAST_WORK", 1)  # on all threads


def draw(points, *, graphs=1, heads=3, latents=5, width=4, dtype=torch.float64):
    q = torch.randn(graphs, heads, latents, width, dtype=dtype)
    k, v = torch.randn(2, graphs, points, heads, width, dtype=dtype).transpose(2, 3)
    return q, k, v


@pytest.mark.parametrize("points", [1, 16, 65, 1200])
@pytest.mark.parametrize("width", [1, 4, 11, 18])
def test_equals_naive_twin(points, width, threads, any_size):
    assert_same_function(
        lambda q, k, v: tied.tied_attention(q, k, v, 0.7),
        lambda q, k, v: naive_flare_attention(q, k, v, scale=0.7),
        draw(points, width=width, graphs=2),
    )


def test_other_processors(vector_width, any_size):
    for width in (3, 8, 20):
        assert_same_function(
            lambda q, k, v: tied.tied_attention(q, k, v, 0.7),
            lambda q, k, v: naive_flare_attention(q, k, v, scale=0.7),
            draw(77, width=width, latents=18),
        )


@pytest.mark.parametrize("points", [1, 65, 600])
def test_encoding_and_decoding_alone(points, threads, any_size, monkeypatch):
    q, k, v = draw(points, graphs=2)
    assert tied.prefers_tied(q, k, v, None, 0.7)
    with monkeypatch.context() as never:
        never.setattr(encode_module, "prefers_tied", lambda *a: False)
        plain = encode_module.encode(q, k, v, None, 0.7)
    found = encode_module.encode(q, k, v, None, 0.7)
    torch.testing.assert_close(found, plain)

    def both(q, k, v):
        state = encode_module.encode(q, k, v, None, 0.7)
        return torch.cat([state.value, state.lse.unsqueeze(-1)], dim=-1)

    def both_plain(q, k, v):
        state = encode_module.encode_explicit(q, k, v, None, 0.7)
        return torch.cat([state.value, state.lse.unsqueeze(-1)], dim=-1)

    assert_same_function(both, both_plain, (q, k, v), second_order=True)
    z = torch.randn_like(q)
    assert_same_function(
        lambda q, k, z: tied.tied_decode(q, k, z, 0.7),
        lambda q, k, z: softmax_attention(k, q, z, None, 0.7),
        (q, k, z),
        second_order=True,
    )


def test_second_order(any_size):
    assert_same_function(
        lambda q, k, v: tied.tied_attention(q, k, v, 0.7),
        lambda q, k, v: naive_flare_attention(q, k, v, scale=0.7),
        draw(130),
        second_order=True,
    )


def test_memory_layout_of_inputs_and_gradient_does_not_matter(any_size):
    q, k, v = draw(200)
    for change in (
        torch.Tensor.contiguous,  # a head's points side by side
        lambda t: t.mT.contiguous().mT,  # a column's points side by side
        lambda t: torch.cat([t, t], dim=-1)[..., : t.size(-1)],
    ):
        assert_same_function(
            lambda q, k, v, f=change: f(tied.tied_attention(f(q), f(k), f(v), 1.0)),
            naive_flare_attention,
            (q, k, v),
        )
    y = tied.tied_attention(q, k.requires_grad_(), v, 1.0)
    y.sum().backward()  # an expanded gradient
    same = v[:, :, :1].expand_as(v)
    torch.testing.assert_close(
        tied.tied_attention(q, k, same, 1.0), same, atol=1e-10, rtol=0
    )


def test_no_graph_and_no_latent_depends_on_another(any_size):
    q, k, v = draw(300, graphs=2, latents=20)
    y = tied.tied_attention(q, k, v, 1.0)
    for i in range(2):
        alone = tied.tied_attention(q[i : i + 1], k[i : i + 1], v[i : i + 1], 1.0)
        assert torch.equal(y[i : i + 1], alone)


def test_rounding_does_not_grow_with_the_points():
    q, k, v = (t.float() for t in draw(300_000, latents=16, heads=1))
    inputs = [t.requires_grad_() for t in (0.3 * q, k, v)]
    y = tied.tied_attention(*inputs, 1.0)
    g = torch.randn_like(y) + 1
    found = [y, *torch.autograd.grad(y, inputs, g)]
    doubles = [t.detach().double().requires_grad_() for t in inputs]
    y = tied.tied_attention(*doubles, 1.0)
    wanted = [y, *torch.autograd.grad(y, doubles, g.double())]
    for a, b in zip(found, wanted, strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


def test_modes_and_callers(threads, any_size):
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
