import threading

import pytest
import torch

from torch_geometric_flare.functional import reference_flare_attention
from torch_geometric_flare.functional.attention.reference import (
    reference_decode,
    reference_encode,
)
from torch_geometric_flare.functional.attention.shared_scores_autograd import (
    shared_attention,
    shared_decode,
    shared_encode,
)
from torch_geometric_flare.kernels import llvm, shared_scores_code
from torch_geometric_flare.kernels.tasks import RowTasks
from torch_geometric_flare.testing import assert_same_function

pytestmark = pytest.mark.skipif(
    not llvm.is_available(), reason="there is no LLVM for this processor"
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
        shared_scores_code.gather_code,
        shared_scores_code.scatter_code,
        shared_scores_code.gradients_code,
    )
    for cache in caches:
        cache.cache_clear()
    monkeypatch.setattr(llvm, "vector_bytes", lambda: request.param)
    yield
    for cache in caches:
        cache.cache_clear()


def draw(*sizes, shared=True, heads=3, latents=5, width=4, dtype=torch.float64):
    """Latents of all graphs or of each, keys, values, and the tasks."""
    q = torch.randn(1 if shared else len(sizes), heads, latents, width, dtype=dtype)
    k, v = torch.randn(2, sum(sizes), heads, width, dtype=dtype)
    return q, k, v, RowTasks.from_sizes(sizes)


def dense(rows):
    return rows.transpose(0, 1)[None]


def reference(sizes, q, k, v, scale=1.0):
    """The formula on each graph by itself."""
    parts = zip(k.split(sizes), v.split(sizes), strict=True)
    outputs = [
        reference_flare_attention(q[i % len(q)], dense(a), dense(b), scale=scale)
        for i, (a, b) in enumerate(parts)
    ]
    return torch.cat([y[0].transpose(0, 1) for y in outputs])


def flat(state):
    value, lse = state
    lse = lse.masked_fill(lse == -torch.inf, 0.0)
    return torch.cat([value, lse.unsqueeze(-1)], dim=-1)


def encode_each(sizes, q, k, v, scale):
    parts = zip(k.split(sizes), v.split(sizes), strict=True)
    states = [
        flat(reference_encode(q[i % len(q)][None], dense(a), dense(b), None, scale))
        for i, (a, b) in enumerate(parts)
    ]
    return torch.cat(states)


def decode_each(sizes, q, k, z, scale):
    parts = zip(k.split(sizes), z, strict=True)
    outputs = [
        reference_decode(q[i % len(q)][None], dense(a), b[None], scale)
        for i, (a, b) in enumerate(parts)
    ]
    return torch.cat([y[0].transpose(0, 1) for y in outputs])


def assert_is_attention(*sizes, second_order=False, change=lambda t: t, **shape):
    q, k, v, tasks = draw(*sizes, **shape)
    assert_same_function(
        lambda q, k, v: shared_attention(change(q), change(k), change(v), tasks, 0.7),
        lambda q, k, v: reference(sizes, q, k, v, 0.7),
        (q, k, v),
        second_order=second_order,
    )


@pytest.mark.parametrize("sizes", [(1,), (16,), (65,), (1200,), (3, 0, 600, 1, 17)])
@pytest.mark.parametrize("width", [1, 4, 11, 18])
def test_equals_the_reference(sizes, width):
    assert_is_attention(*sizes, width=width)
    assert_is_attention(*sizes, width=width, shared=False)


def test_other_processors(vector_width):
    for width in (3, 8, 20):
        assert_is_attention(77, 3, width=width, latents=18)


def test_second_order():
    assert_is_attention(130, 1, 40, second_order=True)
    assert_is_attention(130, 1, 40, second_order=True, shared=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.transpose(0, 1).contiguous().transpose(0, 1),  # heads first
        lambda t: t.mT.contiguous().mT,  # a column's points side by side
        lambda t: torch.cat([t, t], dim=-1)[..., : t.size(-1)],
        lambda t: torch.cat([t, t])[::2] if t.dim() == 3 else t,
    ],
)
def test_memory_layout_does_not_matter(change):
    q, k, v, tasks = draw(200)
    expected = reference((200,), *(change(t) for t in (q, k, v)))
    y = shared_attention(change(q), change(k), change(v), tasks, 1.0)
    torch.testing.assert_close(y, expected)


def test_expanded_tensors():
    q, k, v, tasks = draw(200)
    same = v[:1].expand_as(v).requires_grad_()
    y = shared_attention(q, k, same, tasks, 1.0)
    torch.testing.assert_close(y, same, atol=1e-10, rtol=0)
    y.sum().backward()  # an expanded gradient
    # Every row of the operator sums to one.
    torch.testing.assert_close(same.grad.sum(dim=0), torch.full_like(same[0], 200.0))


@pytest.mark.parametrize("sizes", [(1,), (65,), (600, 0, 3)])
def test_encoding_and_decoding_alone(sizes):
    q, k, v, tasks = draw(*sizes)

    assert_same_function(
        lambda q, k, v: flat(shared_encode(q, k, v, tasks, 0.7)),
        lambda q, k, v: encode_each(sizes, q, k, v, 0.7),
        (q, k, v),
        second_order=True,
    )
    z = torch.randn(len(sizes), *q.shape[1:], dtype=q.dtype)
    assert_same_function(
        lambda q, k, z: shared_decode(q, k, z, tasks, 0.7),
        lambda q, k, z: decode_each(sizes, q, k, z, 0.7),
        (q, k, z),
        second_order=True,
    )
    state = shared_encode(q, k, v, tasks, 0.7)
    torch.testing.assert_close(
        shared_decode(q, k, state.value, tasks, 0.7),
        reference(sizes, q, k, v, 0.7),
    )
    for graph, size in enumerate(sizes):
        if size == 0:
            assert (state.lse[graph] == -torch.inf).all()
            assert not state.value[graph].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_not_a_bit_depends_on_other_graphs_or_on_threads(dtype):
    sizes = 20_000, 7, 513, 1000

    def run(q, k, v, tasks):
        inputs = [t.detach().requires_grad_() for t in (q, k, v)]
        y = shared_attention(*inputs, tasks, 1.0)
        return y.detach(), *torch.autograd.grad(y.square().sum(), inputs)

    q, k, v, tasks = draw(*sizes, shared=False, latents=20, dtype=dtype)
    before = torch.get_num_threads()
    results = []
    for number in (1, 3):
        torch.set_num_threads(number)
        results.append(run(0.3 * q, k, v, tasks))
    torch.set_num_threads(before)
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    start = 0
    for graph, size in enumerate(sizes):
        rows = slice(start, start + size)
        start += size
        alone = run(
            0.3 * q[graph : graph + 1], k[rows], v[rows], RowTasks.from_sizes([size])
        )
        together = (
            part[graph : graph + 1] if part.dim() == 4 else part[rows]
            for part in results[0]
        )
        for one, other in zip(alone, together, strict=True):
            assert torch.equal(one, other)


def test_rounding_does_not_grow_with_the_points():
    q, k, v, tasks = draw(300_000, latents=16, heads=1, dtype=torch.float32)
    inputs = [t.requires_grad_() for t in (0.3 * q, k, v)]
    y = shared_attention(*inputs, tasks, 1.0)
    g = torch.randn_like(y) + 1
    found = [y, *torch.autograd.grad(y, inputs, g)]
    doubles = [t.detach().double().requires_grad_() for t in inputs]
    y = shared_attention(*doubles, tasks, 1.0)
    wanted = [y, *torch.autograd.grad(y, doubles, g.double())]
    for a, b in zip(found, wanted, strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


def test_modes_and_callers(threads):
    sizes = 30_000, 20  # enough work for several threads
    q, k, v, tasks = draw(*sizes)
    z = encode_each(sizes, q, k, v, 1.0)[..., :-1]
    expected = decode_each(sizes, q, k, z, 1.0)

    def run():
        return shared_attention(q, k, v, tasks, 1.0)

    with torch.inference_mode():
        torch.testing.assert_close(run(), expected)
    with torch.no_grad():
        torch.testing.assert_close(run(), expected)
    found = []
    callers = [threading.Thread(target=lambda: found.append(run())) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for y in found:
        torch.testing.assert_close(y, expected)
    assert len(found) == 3
    assert torch.get_num_threads() == threads


def test_what_changes_between_forward_and_backward_is_refused():
    q, k, v, tasks = draw(100)
    for change in (
        lambda t: t.float(),
        lambda t: t[:50],
        lambda t: torch.cat([t, t]),
        lambda t: t[..., :2],
    ):
        inputs = [t.clone().requires_grad_() for t in (q, k, v)]
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t, change):
            y = shared_attention(*inputs, tasks, 1.0)
        with pytest.raises((ValueError, RuntimeError)):
            y.sum().backward()
        inputs = [t.clone().requires_grad_() for t in (q, k, v)]
        y = shared_attention(*inputs, tasks, 1.0)
        inputs[1].data = change(inputs[1].data)
        with pytest.raises((ValueError, RuntimeError)):
            y.sum().backward()


@pytest.mark.parametrize("direction", [-1, 1])
def test_equal_scores_and_tiny_gradients(direction):
    # Nothing may over- or underflow.
    q = torch.full((1, 2, 8, 4), direction * 1.0)
    k = torch.full((4000, 2, 4), 29.0 / 4) + 0.01 * torch.randn(4000, 2, 4)
    v = torch.randn(4000, 2, 4)
    tasks = RowTasks.from_sizes([4000])
    inputs = [t.requires_grad_() for t in (q, k, v)]
    grad = 1e-15 * torch.randn(4000, 2, 4)
    found = torch.autograd.grad(shared_attention(*inputs, tasks, 1.0), inputs, grad)
    doubles = [t.detach().double().requires_grad_() for t in inputs]
    y = reference((4000,), *doubles)
    wanted = torch.autograd.grad(y, doubles, grad.double())
    # Latents and points are nearly alike, so that large terms cancel: what is small in
    # the gradient of the latents is rounding.
    for a, b, error in zip(found, wanted, (1e-2, 1e-3, 1e-4), strict=True):
        assert a.isfinite().all()
        torch.testing.assert_close(
            a.double(), b, atol=error * b.abs().max().item(), rtol=0
        )


@pytest.mark.parametrize("scale", [30.0, -300.0, 1000.0])
@pytest.mark.parametrize("latents", [1, 5, 70])
def test_large_scores(scale, latents):
    sizes = 600, 0, 1, 40
    q, k, v, tasks = draw(*sizes, latents=latents)
    assert_same_function(
        lambda q, k, v: shared_attention(q, k, v, tasks, scale),
        lambda q, k, v: reference(sizes, q, k, v, scale),
        (q, k, v),
        second_order=False,
    )


@pytest.mark.parametrize("score", [-1000.0, -29.0, 0.0, 29.0, 1000.0])
def test_values_and_gradients_of_any_size(score):
    """Scores nearly alike, and values and gradients at the ends of single precision."""
    q = torch.ones(1, 2, 8, 4)
    k = torch.full((1200, 2, 4), score / 4) + 0.1 * torch.randn(1200, 2, 4)
    v = torch.randn(1200, 2, 4)
    tasks = RowTasks.from_sizes([1200])
    for of_values, of_gradients in ((1e30, 1e-30), (1e26, 1e-15), (1e-30, 1e30)):
        inputs = [q, k, of_values * v]
        inputs = [t.detach().requires_grad_() for t in inputs]
        g = of_gradients * torch.randn(1200, 2, 4)
        y = shared_attention(*inputs, tasks, 1.0)
        found = [y, torch.autograd.grad(y, inputs, g)[2]]
        doubles = [t.detach().double().requires_grad_() for t in inputs]
        y = reference((1200,), *doubles)
        wanted = [y, torch.autograd.grad(y, doubles, g.double())[2]]
        for a, b in zip(found, wanted, strict=True):
            assert (a.double() - b).norm() <= 2e-3 * b.norm()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", ["q", "k", "v", "grad"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_non_finite_numbers_go_where_the_reference_has_them(value, place, dtype):
    """So they stay in their graph and head; blocks of 256 points, 64 latents."""
    sizes = 40, 700, 1, 300
    q, k, v, tasks = draw(*sizes, shared=False, latents=70, dtype=dtype)
    grad = torch.randn_like(k)
    for row in (60, 500, 740, 900):  # one of several blocks, one point, one block
        inputs = {"q": q, "k": k, "v": v, "grad": grad}
        inputs = {name: t.clone() for name, t in inputs.items()}
        changed = inputs[place]
        (changed[1] if place == "q" else changed[row])[1, 2] = value
        if place == "q":
            changed[1, 1, 7:, 2] = 1.0

        def results(function, inputs=inputs):
            leaves = [inputs[name].clone().requires_grad_() for name in "qkv"]
            y = function(*leaves)
            return y, *torch.autograd.grad(y, leaves, inputs["grad"])

        found = results(lambda q, k, v: shared_attention(q, k, v, tasks, 0.7))
        wanted = results(lambda q, k, v: reference(sizes, q, k, v, 0.7))
        for a, b in zip(found, wanted, strict=True):
            assert torch.equal(a.isfinite(), b.isfinite())
            real = b.isfinite()
            torch.testing.assert_close(a[real], b[real], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_non_finite_numbers_in_encoding_and_decoding_alone(value):
    sizes = 40, 700
    q, k, v, tasks = draw(*sizes, latents=70)
    q = q.abs()  # all scores of an infinite key have its sign
    z = torch.randn(2, *q.shape[1:], dtype=q.dtype)
    k[300:600, 1, 2] = value  # whole blocks
    for shared, each, last in (
        (lambda *a: flat(shared_encode(*a, tasks, 0.7)), encode_each, v),
        (lambda *a: shared_decode(*a, tasks, 0.7), decode_each, z),
    ):
        results = []
        for function in (shared, lambda *a, each=each: each(sizes, *a, 0.7)):
            leaves = [t.clone().requires_grad_() for t in (q, k, last)]
            y = function(*leaves)
            results.append([y])
            if value != -torch.inf:  # the padding of the latents has NaN gradients
                loss = y.nan_to_num().square().sum()
                results[-1] += torch.autograd.grad(loss, leaves)
        for a, b in zip(*results, strict=True):
            assert torch.equal(a.isfinite(), b.isfinite())
            real = b.isfinite()
            torch.testing.assert_close(a[real], b[real])


@pytest.mark.parametrize("size", [1e4, 1e20, 1e37])
def test_scores_up_to_the_largest_numbers(size):
    """The latents see one point each, and each point the latents that see it."""
    q, k, v, tasks = draw(600, dtype=torch.float32)
    inputs = q, size * k, v
    y = shared_attention(*inputs, tasks, 1.0)
    exact = reference((600,), *(t.double() for t in inputs))
    torch.testing.assert_close(y.double(), exact, atol=1e-5, rtol=1e-5)
