import logging

import pytest
import torch

from torch_geometric_flare import FLAREConv, PointBatch
from torch_geometric_flare.functional import (
    AttentionBackend,
    attention_backend,
    flare_attention,
    flare_decode,
    flare_encode,
    naive_flare_attention,
    ragged_flare_attention,
    ragged_flare_decode,
    ragged_flare_encode,
)
from torch_geometric_flare.functional.dispatch import choose_backend
from torch_geometric_flare.kernels.llvm import is_available

SIZES = (1, 700, 2, 63, 0, 500)

kernels = pytest.mark.skipif(not is_available(), reason="no LLVM for this processor")


def draw(sizes=SIZES, width=4, dtype=torch.float64, per_graph=False):
    q = torch.randn(len(sizes), 3, 5, width, dtype=dtype)
    k, v = torch.randn(2, sum(sizes), 3, width, dtype=dtype)
    return q if per_graph else q[0], k, v


def results(q, k, v, layout):
    """Attention, encoding and decoding, with all gradients."""
    leaves = [t.detach().requires_grad_() for t in (q, k, v)]
    y = ragged_flare_attention(*leaves, layout, scale=0.7)
    state = ragged_flare_encode(*leaves, layout, scale=0.7)
    z = ragged_flare_decode(*leaves[:2], state.value, layout, scale=0.7)
    found = [y, *state, z]
    total = sum(
        (t.masked_fill(t == -torch.inf, 0.0).sin()).sum() for t in (y, *state, z)
    )
    return [*found, *torch.autograd.grad(total, leaves)]


@pytest.mark.parametrize("per_graph", [False, True])
@pytest.mark.parametrize(
    "backend",
    [
        AttentionBackend.DEFINITION,
        AttentionBackend.SDPA,
        pytest.param(AttentionBackend.SHARED_SCORES, marks=kernels),
    ],
)
def test_all_backends_agree(backend, per_graph):
    q, k, v = draw(per_graph=per_graph)
    layout = PointBatch.from_sizes(SIZES)
    assert layout.order is not None  # rows move
    k, v = layout.sort(k), layout.sort(v)
    expected = results(q, k, v, layout)
    with attention_backend(backend):
        found = results(q, k, v, layout)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


def test_latents_of_each_graph():
    q, k, v = draw(per_graph=True)
    layout = PointBatch.from_sizes(SIZES)
    y = layout.unsort(ragged_flare_attention(q, layout.sort(k), layout.sort(v), layout))
    parts = zip(k.split(SIZES), v.split(SIZES), y.split(SIZES), strict=True)
    for graph, (a, b, found) in enumerate(parts):
        alone = naive_flare_attention(
            q[graph], a.transpose(0, 1)[None], b.transpose(0, 1)[None]
        )
        torch.testing.assert_close(found, alone[0].transpose(0, 1))


@pytest.mark.parametrize("value", [1e4, 1e35, torch.nan, torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("per_graph", [False, True])
def test_not_a_bit_depends_on_what_batch_mates_need(value, dtype, per_graph):
    """A graph out of range, or with NaN, is computed otherwise; no other one is."""
    sizes = (300, 700, 5, 600)
    q, k, v = draw(sizes, dtype=dtype, per_graph=per_graph)
    layout = PointBatch.from_sizes(sizes)

    def by_graph(k):
        k, values = layout.sort(k), layout.sort(v)
        state = ragged_flare_encode(q, k, values, layout)
        y = ragged_flare_attention(q, k, values, layout)
        back = ragged_flare_decode(q, k, torch.ones_like(state.value), layout)
        y, back = layout.unsort(y), layout.unsort(back)
        rows = zip(y.split(sizes), back.split(sizes), *state, strict=True)
        return list(rows)

    expected = by_graph(k)
    other = k.clone()
    other[400, 1, 2] = value  # of the second graph
    found = by_graph(other)
    for graph in (0, 2, 3):
        for a, b in zip(found[graph], expected[graph], strict=True):
            assert torch.equal(a, b)
    if value == 1e4:
        exact = naive_flare_attention(
            (q[1] if per_graph else q).double(),
            other[300:1000].double().transpose(0, 1)[None],
            v[300:1000].double().transpose(0, 1)[None],
        )
        torch.testing.assert_close(
            found[1][0].double(), exact[0].transpose(0, 1), atol=1e-5, rtol=1e-5
        )


def test_gradients_where_graphs_are_computed_in_two_ways():
    sizes = (30, 70, 0, 60)
    q, k, v = draw(sizes)
    # The bound on the scores is large, the scores are not.
    q[..., 0] = 0.0
    k[40, :, 0] = 1e303
    layout = PointBatch.from_sizes(sizes)
    choice = choose_backend("attention", q[None], k, v, 0.7, layout)
    if is_available():
        assert choice.fits == [True, False, True]
    expected = results(q, k, v, layout)
    with attention_backend(AttentionBackend.DEFINITION):
        torch.testing.assert_close(results(q, k, v, layout), expected)


@kernels
def test_small_graphs_take_the_same_way_alone_and_together():
    q, k, v = draw((3,))
    for sizes in ((3,), (3, 10_000)):
        _, k, v = draw(sizes)
        layout = PointBatch.from_sizes(sizes)
        choice = choose_backend("attention", q[None], k, v, 1.0, layout)
        assert choice.backend is AttentionBackend.SHARED_SCORES
        assert choice.fits is None


@kernels
def test_what_a_forced_backend_cannot_compute():
    q, k, v = draw((700,))
    layout = PointBatch.from_sizes((700,))
    half = [t.bfloat16() for t in (q, k, v)]
    with attention_backend(AttentionBackend.SHARED_SCORES):
        for arguments, reason in (
            ((1e303 * q, k, v, layout), r"pass 1e\+300 .* in 1 of 1 graphs"),
            ((*half, layout), "bfloat16"),
            ((q, k, torch.cat([v, v], -1), layout), "keys of width 4 and values of 8"),
        ):
            with pytest.raises(ValueError, match=f"SHARED_SCORES is forced.*{reason}"):
                ragged_flare_attention(*arguments)
        dense = [t.transpose(0, 1)[None] for t in (k, v)]
        mask = torch.ones(1, 700, dtype=torch.bool)
        with pytest.raises(ValueError, match="forced.*there is a mask"):
            flare_attention(q, *dense, mask=mask)
    with (
        attention_backend(AttentionBackend.VARLEN),
        pytest.raises(ValueError, match="VARLEN is forced, but the batch is none of"),
    ):
        ragged_flare_attention(q, k, v, layout)
    assert ragged_flare_attention(1e3 * q, k, v, layout).isfinite().all()


def test_the_innermost_backend_counts_and_nothing_remains():
    q, k, v = draw((700,))
    layout = PointBatch.from_sizes((700,))

    def backend():
        return choose_backend("attention", q[None], k, v, 1.0, layout).backend

    usual = backend()
    with pytest.raises(KeyError), attention_backend(AttentionBackend.DEFINITION):
        with attention_backend(AttentionBackend.SDPA):
            assert backend() is AttentionBackend.SDPA
        assert backend() is AttentionBackend.DEFINITION
        raise KeyError
    assert backend() is usual
    with (
        pytest.raises(ValueError, match="backend is 'sdpa', expected one of"),
        attention_backend("sdpa"),
    ):
        pass


@kernels
def test_the_log_says_which_backend_and_why(caplog):
    q, k, v = draw((30, 70))
    layout = PointBatch.from_sizes((30, 70))

    def logged(*arguments):
        caplog.clear()
        ragged_flare_attention(*arguments, layout)
        return caplog.messages

    name = "torch_geometric_flare.functional.dispatch"
    with caplog.at_level(logging.INFO, name):
        assert logged(q, k, v) == []
    with caplog.at_level(logging.DEBUG, name):
        assert logged(q, k, v) == [
            "attention takes SHARED_SCORES: nothing is in the way"
        ]
        half = [t.bfloat16() for t in (q, k, v)]
        (message,) = logged(*half)
        assert message.startswith("attention takes SDPA: q, k and v are torch.bfloat16")
        out_of_range = k.clone()
        out_of_range[40] = torch.nan
        first, *_, last = logged(q, out_of_range, v)
        assert "in 1 of 2 graphs" in first
        assert last.startswith("attention takes SDPA: scores may pass 1e+300")
        with attention_backend(AttentionBackend.DEFINITION):
            assert logged(q, k, v) == ["attention takes DEFINITION: it is forced"]
        compiled = torch.compile(flare_attention, fullgraph=True, backend="eager")
        caplog.clear()
        compiled(q, *(t.transpose(0, 1)[None] for t in (k, v)))
        assert [m for m in caplog.messages if m.startswith("attention takes")] == []


def test_modules_follow():
    conv = FLAREConv(8, heads=2, num_latents=5, kv_layers=0).double()
    x = torch.randn(50, 8, dtype=torch.float64)
    y = conv(x)
    for backend in (AttentionBackend.DEFINITION, AttentionBackend.SDPA):
        with attention_backend(backend):
            torch.testing.assert_close(conv(x), y)
    with (
        attention_backend(AttentionBackend.VARLEN),
        pytest.raises(ValueError, match="VARLEN is forced"),
    ):
        conv(x)


@pytest.mark.parametrize("shape", [(2, 0, 7, 4), (2, 3, 7, 0)])
def test_no_head_or_no_channel(shape):
    batch, heads, points, width = shape
    q, k = torch.randn(heads, 5, width), torch.randn(batch, heads, points, width)
    message = "at least one head and one channel"
    for function in (flare_attention, flare_encode):
        with pytest.raises(ValueError, match=message):
            function(q, k, k)
    with pytest.raises(ValueError, match=message):
        flare_decode(q, k, torch.randn(batch, heads, 5, width))
    rows = torch.randn(14, heads, width)
    layout = PointBatch.from_sizes((7, 7))
    for function in (ragged_flare_attention, ragged_flare_encode):
        with pytest.raises(ValueError, match=message):
            function(q, rows, rows, layout)


@pytest.mark.parametrize("convert", [torch.Tensor.to_sparse, torch.Tensor.to_mkldnn])
def test_tensors_of_other_layouts_get_a_sentence(convert):
    q, k, v = draw((700,), dtype=torch.float32)
    layout = PointBatch.from_sizes((700,))
    with pytest.raises(ValueError, match=r"v is a tensor of layout .* v.to_dense\(\)"):
        ragged_flare_attention(q, k, convert(v), layout)
    dense = [t.transpose(0, 1)[None].contiguous() for t in (k, v)]
    with pytest.raises(ValueError, match=r"k is a tensor of layout .* k.to_dense\(\)"):
        flare_attention(q, convert(dense[0]), dense[1])
    with pytest.raises(ValueError, match=r"x is a tensor of layout .* x.to_dense\(\)"):
        FLAREConv(4, heads=2)(convert(torch.randn(10, 4)))
