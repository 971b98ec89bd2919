"""Points that count by what they stand for, in every backend."""

import pytest
import torch

from tests.functional.backends import supporting
from torch_geometric_flare.functional import (
    PointBatch,
    attention_backend,
    flare_attention,
    flare_encode,
    ragged_flare_attention,
    ragged_flare_encode,
    ragged_flare_weights,
    ragged_self_attention,
    ragged_softmax_encode,
    ragged_sum_encode,
    reference_flare_attention,
    reference_flare_weights,
)
from torch_geometric_flare.functional.attention.shared_scores_autograd import (
    shared_attention,
    shared_encode,
)
from torch_geometric_flare.kernels import llvm
from torch_geometric_flare.kernels.tasks import RowTasks
from torch_geometric_flare.testing import assert_same_function

SIZES = (40, 3, 700, 41)


@pytest.fixture(params=supporting("attention", weighted=True))
def backend(request):
    with attention_backend(request.param):
        yield request.param


def draw(sizes=SIZES, dtype=torch.float64):
    """Latents, keys, values, and weights that spread by a factor of a thousand."""
    q = torch.randn(2, 5, 4, dtype=dtype)
    k, v = torch.randn(2, sum(sizes), 2, 4, dtype=dtype)
    return q, k, v, 10 ** (3 * torch.rand(sum(sizes), dtype=dtype) - 2)


def dense(rows):
    return rows.transpose(0, 1)[None]


def define(q, k, v, weight, scale=1.0):
    """The formula in one graph, without any function of the package."""
    scores = scale * torch.einsum("hmd,nhd->hmn", q, k)
    gather = weight * scores.exp()
    z = (gather / gather.sum(-1, keepdim=True)) @ v.transpose(0, 1)
    return (scores.mT.softmax(-1) @ z).transpose(0, 1)


def define_each(sizes, q, k, v, weight, scale=1.0):
    parts = zip(k.split(sizes), v.split(sizes), weight.split(sizes), strict=True)
    return torch.cat([define(q, *part, scale) for part in parts])


def layout_of(sizes, weight):
    return PointBatch.from_sizes(sizes, dtype=weight.dtype).weighted(weight)


def attention(q, k, v, sizes, weight, **options):
    layout = layout_of(sizes, weight)
    y = ragged_flare_attention(q, layout.sort(k), layout.sort(v), layout, **options)
    return layout.unsort(y)


def test_weights_multiply_the_exponentials(backend):
    q, k, v, weight = draw()
    assert_same_function(
        lambda q, k, v: attention(q, k, v, SIZES, weight, scale=0.7),
        lambda q, k, v: define_each(SIZES, q, k, v, weight, 0.7),
        (q, k, v),
        second_order=True,
    )


def test_a_dense_batch_is_a_ragged_one(backend):
    q, k, v, weight = draw((50, 50))
    batch = [t.view(2, 50, 2, 4).transpose(1, 2) for t in (k, v)]
    y = flare_attention(q, *batch, weight=weight.view(2, 50))
    wanted = attention(q, k, v, (50, 50), weight)
    torch.testing.assert_close(y.transpose(1, 2).flatten(0, 1), wanted)
    by_formula = reference_flare_attention(q, *batch, weight=weight.view(2, 50))
    torch.testing.assert_close(y, by_formula)


def test_masked_points_have_no_weight():
    q, k, v, weight = draw((60,))
    mask = torch.arange(60) < 45
    y = flare_attention(
        q, dense(k), dense(v), mask=mask[None], weight=weight[None], scale=0.5
    )
    wanted = define(q, k[:45], v[:45], weight[:45], 0.5)
    torch.testing.assert_close(y[0].transpose(0, 1)[:45], wanted)


def test_a_point_may_be_split(backend):
    q, k, v, weight = draw()
    place, part = 17, 0.3
    k_split, v_split = (torch.cat([t[:1].clone(), t]) for t in (k, v))
    k_split[0], v_split[0] = k[place], v[place]
    split = torch.cat([part * weight[place : place + 1], weight])
    split[place + 1] *= 1 - part
    sizes = (SIZES[0] + 1, *SIZES[1:])
    y = attention(q, k, v, SIZES, weight)
    y_split = attention(q, k_split, v_split, sizes, split)
    torch.testing.assert_close(y_split[1:], y, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(y_split[0], y[place], rtol=1e-10, atol=1e-10)
    unsplit = attention(q, k_split, v_split, sizes, torch.ones(len(split)).double())
    assert (unsplit[1:41] - attention(q, k, v, SIZES, weight)[:40]).abs().max() > 1e-3


def test_a_common_factor_cancels(backend):
    q, k, v, weight = draw()
    y = attention(q, k, v, SIZES, weight)
    factors = torch.repeat_interleave(
        torch.tensor([1e-6, 1.0, 3e4, 0.5]).double(), torch.tensor(SIZES)
    )
    torch.testing.assert_close(attention(q, k, v, SIZES, factors * weight), y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_of_one_change_no_bit(backend, dtype):
    q, k, v, weight = draw(dtype=dtype)
    inputs = [t.requires_grad_() for t in (q, k, v)]
    plain = PointBatch.from_sizes(SIZES, dtype=dtype)
    for layout in (plain, plain.weighted(torch.ones_like(weight))):
        y = ragged_flare_attention(*inputs, layout)
        found = [y, *torch.autograd.grad(y.square().sum(), inputs)]
        if layout is plain:
            wanted = found
    if backend == "sdpa":  # another kernel of torch takes a mask
        torch.testing.assert_close(found, wanted)
    else:
        assert all(map(torch.equal, found, wanted))


def test_a_point_of_weight_zero_only_receives(backend):
    q, k, v, weight = draw((90,))
    weight[30:60] = 0
    v = v.clone()
    y = attention(q, k, v, (90,), weight)
    kept = torch.cat([torch.arange(30), torch.arange(60, 90)])
    torch.testing.assert_close(
        y[kept], attention(q, k[kept], v[kept], (60,), weight[kept])
    )
    v[30:60] = 1e6
    torch.testing.assert_close(attention(q, k, v, (90,), weight), y)
    assert y[30:60].isfinite().all()


def test_a_graph_of_no_weight_is_an_empty_one(backend):
    q, k, v, weight = draw((20, 30))
    weight[:20] = 0
    inputs = [t.requires_grad_() for t in (q, k, v)]
    y = attention(*inputs, (20, 30), weight)
    assert torch.equal(y[:20], torch.zeros(20, 2, 4).double())
    grads = torch.autograd.grad(y.square().sum(), inputs)
    assert all(grad.isfinite().all() for grad in grads)


def test_states_of_parts_merge(backend):
    q, k, v, weight = draw((90,))
    whole = ragged_flare_encode(q, k, v, layout_of((90,), weight))
    parts = [
        ragged_flare_encode(q, k[rows], v[rows], layout_of((30,), weight[rows]))
        for rows in (slice(0, 30), slice(30, 60), slice(60, 90))
    ]
    merged = parts[0].merge(parts[1]).merge(parts[2])
    torch.testing.assert_close(merged, whole)
    dense_state = flare_encode(q, dense(k), dense(v), weight=weight[None])
    torch.testing.assert_close(tuple(dense_state), tuple(whole))
    total = (q @ k.permute(1, 2, 0)).exp() @ weight
    torch.testing.assert_close(whole.lse[0], total.log())


def test_the_matrices_hold_the_weights():
    q, k, _, weight = draw((50,))
    layout = layout_of((50,), weight)
    gather, scatter = ragged_flare_weights(q, k, layout)
    plain = reference_flare_weights(q, dense(k))
    shares = plain[0][0] * weight
    torch.testing.assert_close(
        gather.permute(1, 2, 0), shares / shares.sum(-1, keepdim=True)
    )
    torch.testing.assert_close(scatter.transpose(0, 1), plain[1][0])


def test_attention_among_points_takes_weights():
    _, k, v, weight = draw((12, 5))
    y = ragged_self_attention(k, k, v, layout_of((12, 5), weight), scale=0.5)
    for rows in (slice(0, 12), slice(12, 17)):
        scores = 0.5 * torch.einsum("nhd,khd->hnk", k[rows], k[rows])
        shares = scores.exp() * weight[rows]
        shares = shares / shares.sum(-1, keepdim=True)
        wanted = (shares @ v[rows].transpose(0, 1)).transpose(0, 1)
        torch.testing.assert_close(y[rows], wanted)


def test_the_gradient_of_weights():
    q, k, v, weight = draw((30,))
    assert_same_function(
        lambda weight: attention(q, k, v, (30,), weight),
        lambda weight: define(q, k, v, weight),
        (weight,),
    )
    weight.requires_grad_()
    with attention_backend("sdpa"), pytest.raises(ValueError, match="sdpa"):
        attention(q, k, v, (30,), weight)


@pytest.mark.skipif(not llvm.is_available(), reason="there is no LLVM")
def test_kernels_in_single_precision():
    q, k, v, weight = draw((1500, 20), torch.float32)
    tasks, log_weight = RowTasks.from_sizes((1500, 20)), weight.log()
    y = shared_attention(q[None], k, v, tasks, 1.0, log_weight)
    doubles = [t.double() for t in (q, k, v, weight)]
    wanted = define_each((1500, 20), *doubles)
    torch.testing.assert_close(y.double(), wanted, rtol=1e-4, atol=1e-5)
    state = shared_encode(q[None], k, v, tasks, 1.0, log_weight)
    total = torch.einsum("hmd,nhd->hmn", doubles[0], doubles[1][1500:]).exp()
    lse = (total @ doubles[3][1500:]).log()
    torch.testing.assert_close(state.lse[1].double(), lse, rtol=1e-5, atol=1e-5)


def test_compiled():
    q, k, v, weight = draw((64, 64), torch.float32)

    def function(q, k, v, weight):
        layout = PointBatch.from_sizes((64, 64)).weighted(weight)
        return ragged_flare_attention(q, k, v, layout)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    inputs = [t.requires_grad_() for t in (q, k, v)]
    for call in (function, compiled):
        y = call(*inputs, weight)
        found = [y, *torch.autograd.grad(y.sum(), inputs)]
        if call is function:
            wanted = found
    torch.testing.assert_close(found, wanted)


def test_chunks_keep_the_weights():
    weight = torch.rand(sum(SIZES))
    layout = PointBatch.from_sizes(SIZES).weighted(weight)
    rows = [chunk.layout.unsort(chunk.layout.weight) for chunk in layout.chunks(100)]
    assert torch.equal(torch.cat(rows), weight)


def test_sums_take_weights():
    _, k, v, weight = draw((12, 5))
    state = ragged_sum_encode(k, v, layout_of((12, 5), weight))
    for graph, rows in enumerate((slice(0, 12), slice(12, 17))):
        a = weight[rows]
        total = torch.einsum("n,nhg,nhd->hgd", a, k[rows], v[rows])
        torch.testing.assert_close(state.total[graph], total)
        wanted = torch.einsum("n,nhg->hg", a, k[rows])
        torch.testing.assert_close(state.weight[graph], wanted)


def test_softmax_of_given_scores_takes_weights():
    _, k, v, weight = draw((12, 5, 4))
    weight[-4:] = 0
    k.requires_grad_()
    state = ragged_softmax_encode(k, v, layout_of((12, 5, 4), weight))
    for graph, rows in enumerate((slice(0, 12), slice(12, 17))):
        shares = (k[rows].exp() * weight[rows, None, None]).permute(1, 2, 0)
        total = shares.sum(-1)
        wanted = shares @ v[rows].transpose(0, 1) / total[..., None]
        torch.testing.assert_close(state.value[graph], wanted)
        torch.testing.assert_close(state.lse[graph], total.log())
    assert torch.equal(state.value[2], torch.zeros(2, 4, 4).double())
    assert (state.lse[2] == -torch.inf).all()
    (grad,) = torch.autograd.grad(state.value.square().sum(), k)
    assert grad.isfinite().all()


@pytest.mark.parametrize(
    "weight",
    [
        torch.ones(4),
        torch.ones(5, dtype=torch.long),
        torch.tensor([1.0, 1, 1, 1, -1]),
        torch.tensor([1.0, 1, 1, 1, torch.nan]),
        torch.tensor([1.0, 1, 1, 1, torch.inf]),
    ],
    ids=["short", "integers", "negative", "nan", "infinite"],
)
def test_refuses_what_is_no_weight(weight):
    with pytest.raises((TypeError, ValueError), match="weight"):
        PointBatch.from_sizes((5,)).weighted(weight)
    x = torch.randn(1, 2, 5, 4)
    with pytest.raises((TypeError, ValueError), match="weight"):
        flare_attention(torch.randn(2, 3, 4), x, x, weight=weight[None])
