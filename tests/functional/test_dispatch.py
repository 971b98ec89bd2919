import logging

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from tests.functional.backends import supporting
from torch_geometric_flare import FLAREConv, PointBatch
from torch_geometric_flare.functional import (
    attention_backend,
    flare_attention,
    flare_decode,
    flare_encode,
    ragged_flare_attention,
    ragged_flare_decode,
    ragged_flare_encode,
    ragged_self_attention,
    reference_flare_attention,
    reference_flare_weights,
)
from torch_geometric_flare.functional.attention import choice
from torch_geometric_flare.functional.attention.backend import AttentionCall, Backend
from torch_geometric_flare.functional.attention.choice import BACKENDS, choose_backend
from torch_geometric_flare.functional.attention.reference import REFERENCE
from torch_geometric_flare.functional.attention.split_keys import SPLIT_KEYS
from torch_geometric_flare.kernels.llvm import is_available

SIZES = (1, 700, 2, 63, 0, 500)

kernels = pytest.mark.skipif(not is_available(), reason="no LLVM for this processor")
ON_CPU = supporting("attention")


def draw(sizes=SIZES, width=4, dtype=torch.float64, per_graph=False):
    q = torch.randn(len(sizes), 3, 5, width, dtype=dtype)
    k, v = torch.randn(2, sum(sizes), 3, width, dtype=dtype)
    return q if per_graph else q[0], k, v


def dense(rows):
    return rows.transpose(0, 1)[None]


def with_gradients(function, leaves):
    """The results of a function, the state with its infinities, and all gradients."""
    leaves = [t.detach().requires_grad_() for t in leaves]
    results = function(*leaves)
    total = sum(t.masked_fill(t == -torch.inf, 0.0).sin().sum() for t in results)
    return [*results, *torch.autograd.grad(total, leaves)]


def computed(layout):
    """Attention, encoding and decoding of rows in the batch's own order."""

    def function(q, k, v):
        k, v = layout.sort(k), layout.sort(v)
        y = ragged_flare_attention(q, k, v, layout, scale=0.7)
        state = ragged_flare_encode(q, k, v, layout, scale=0.7)
        back = ragged_flare_decode(q, k, state.value, layout, scale=0.7)
        return layout.unsort(y), *state, layout.unsort(back)

    return function


def formulas(sizes):
    """The same by matrices of each graph alone."""

    def function(q, k, v):
        ys, values, lses = [], [], []
        for graph, (a, b) in enumerate(
            zip(k.split(sizes), v.split(sizes), strict=True)
        ):
            a, b = dense(a), dense(b)
            latents = q[graph] if q.dim() == 4 else q
            gather, scatter = reference_flare_weights(latents, a, scale=0.7)
            z = gather @ b
            values.append(z)
            lses.append((0.7 * latents @ a.mT).logsumexp(dim=-1))
            ys.append((scatter @ z)[0].transpose(0, 1))
        y = torch.cat(ys)
        return y, torch.cat(values), torch.cat(lses), y

    return function


def test_every_backend_is_tested_and_documented():
    names = [backend.name for backend in BACKENDS]
    assert len(set(names)) == len(names)
    on_every_cpu = {"sdpa", "reference"}
    assert on_every_cpu <= set(supporting("self_attention")) <= set(names)
    compiled = {"shared_scores"} if is_available() else set()
    assert on_every_cpu | compiled <= set(ON_CPU) <= set(names)
    assert on_every_cpu | compiled <= set(supporting("attention", weighted=True))
    for name in names:
        assert f'- `"{name}"`: ' in attention_backend.__doc__


@pytest.mark.parametrize("per_graph", [False, True])
@pytest.mark.parametrize("backend", [None, *ON_CPU])
def test_every_backend_equals_the_formulas(backend, per_graph):
    leaves = draw(per_graph=per_graph)
    layout = PointBatch.from_sizes(SIZES)
    assert layout.order is not None  # rows move
    expected = with_gradients(formulas(SIZES), leaves)
    if backend is None:
        found = with_gradients(computed(layout), leaves)
    else:
        with attention_backend(backend):
            found = with_gradients(computed(layout), leaves)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("backend", ON_CPU)
def test_every_backend_takes_dense_batches(backend, masked):
    q, (k, v) = torch.randn(3, 5, 4).double(), torch.randn(2, 2, 3, 63, 4).double()
    mask = torch.rand(2, 63) > 0.3 if masked else None
    real = slice(None) if mask is None else mask[:, None, :, None]

    def function(q, k, v):
        y = flare_attention(q, k, v, scale=0.7, mask=mask)
        state = flare_encode(q, k, v, scale=0.7, mask=mask)
        back = flare_decode(q, k, state.value, scale=0.7)
        return (y, *state, back) if mask is None else (y * real, *state, back * real)

    def formula(q, k, v):
        gather, scatter = reference_flare_weights(q, k, scale=0.7, mask=mask)
        scores = 0.7 * q @ k.mT
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None], -torch.inf)
        z = gather @ v
        y = scatter @ z if mask is None else scatter @ z * real
        return y, z, scores.logsumexp(dim=-1), y

    if masked and backend not in supporting("attention", mask):
        with attention_backend(backend), pytest.raises(ValueError, match=backend):
            function(q, k, v)
        return
    expected = with_gradients(formula, (q, k, v))
    with attention_backend(backend):
        found = with_gradients(function, (q, k, v))
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("backend", supporting("self_attention"))
def test_every_backend_computes_self_attention(backend):
    sizes = (3, 0, 30, 5)
    layout = PointBatch.from_sizes(sizes)
    leaves = torch.randn(3, sum(sizes), 2, 4, dtype=torch.float64)

    def formula(q, k, v):
        parts = zip(*(t.split(sizes) for t in (q, k, v)), strict=True)
        ys = [
            (0.3 * dense(a) @ dense(b).mT).softmax(-1) @ dense(c) for a, b, c in parts
        ]
        return (torch.cat([y[0].transpose(0, 1) for y in ys]),)

    def function(*rows):
        rows = map(layout.sort, rows)
        return (layout.unsort(ragged_self_attention(*rows, layout, scale=0.3)),)

    with attention_backend(backend):
        found = with_gradients(function, leaves)
    torch.testing.assert_close(found, with_gradients(formula, leaves))
    with (
        attention_backend("shared_scores"),
        pytest.raises(ValueError, match="shared_scores.*self_attention"),
    ):
        function(*leaves)


def test_latents_of_each_graph():
    q, k, v = draw(per_graph=True)
    layout = PointBatch.from_sizes(SIZES)
    y = layout.unsort(ragged_flare_attention(q, layout.sort(k), layout.sort(v), layout))
    parts = zip(k.split(SIZES), v.split(SIZES), y.split(SIZES), strict=True)
    for graph, (a, b, found) in enumerate(parts):
        alone = reference_flare_attention(q[graph], dense(a), dense(b))
        torch.testing.assert_close(found, alone[0].transpose(0, 1))


@pytest.mark.parametrize("value", [1e4, 1e35, torch.nan, torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("per_graph", [False, True])
def test_not_a_bit_depends_on_the_numbers_of_batch_mates(value, dtype, per_graph):
    """A graph with NaN changes no other one, and itself in one head alone."""
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
    exact = reference_flare_attention(
        (q[1] if per_graph else q).double(),
        dense(other[300:1000].double()),
        dense(v[300:1000].double()),
    )
    exact = exact[0].transpose(0, 1)
    y = found[1][0].double()
    assert torch.equal(y.isnan(), exact.isnan())
    assert torch.equal(found[1][0][:, ::2], expected[1][0][:, ::2])  # other heads
    if value == 1e4:
        torch.testing.assert_close(y, exact, atol=1e-5, rtol=1e-5)


@kernels
def test_small_graphs_take_the_same_way_alone_and_together():
    for sizes in ((3,), (3, 10_000)):
        q, k, v = draw(sizes)
        layout = PointBatch.from_sizes(sizes)
        call = AttentionCall.of("attention", q[None], k, v, 1.0, layout)
        assert choose_backend(call).name == "shared_scores"


@kernels
def test_what_a_forced_backend_cannot_compute():
    q, k, v = draw((700,))
    layout = PointBatch.from_sizes((700,))
    half = [t.bfloat16() for t in (q, k, v)]
    with attention_backend("shared_scores"):
        for arguments, reason in (
            ((*half, layout), "bfloat16"),
            ((q, k, torch.cat([v, v], -1), layout), "width 4 .* 8"),
        ):
            with pytest.raises(ValueError, match=f"'shared_scores'.*{reason}"):
                ragged_flare_attention(*arguments)
        assert ragged_flare_attention(1e303 * q, k, v, layout).isfinite().all()
        mask = torch.ones(1, 700, dtype=torch.bool)
        with pytest.raises(ValueError, match="'shared_scores'.*mask"):
            flare_attention(q, dense(k), dense(v), mask=mask)
    for name in ("varlen", "split_keys"):
        with attention_backend(name), pytest.raises(ValueError, match=f"'{name}'"):
            ragged_flare_attention(q, k, v, layout)


def test_why_keys_are_not_split():
    q, k, v = torch.randn(3, 1, 2, 50, 8)
    call = AttentionCall.of("attention", q, k, v, 1.0)
    assert "cpu" in SPLIT_KEYS.why_unsupported(call)
    mask = torch.ones(1, 50, dtype=torch.bool)
    for change, reason in (
        ({"mask": mask}, "mask"),
        ({"tracing": "compile"}, "traced"),
        ({"dtypes": (torch.float64,) * 3}, "float64"),
        ({"autocast": torch.bfloat16}, "autocast"),
        ({"shapes": (q.shape, k.shape, v[..., :4].shape)}, "width 8, values 4"),
    ):
        fields = {**vars(call), "device": torch.device("cuda"), **change}
        assert reason in SPLIT_KEYS.why_unsupported(AttentionCall(**fields))


def test_the_innermost_backend_counts_and_nothing_remains():
    q, k, v = draw((700,))
    layout = PointBatch.from_sizes((700,))

    def backend():
        call = AttentionCall.of("attention", q[None], k, v, 1.0, layout)
        return choose_backend(call).name

    usual = backend()
    with pytest.raises(KeyError), attention_backend("reference"):
        with attention_backend("sdpa"):
            assert backend() == "sdpa"
        assert backend() == "reference"
        raise KeyError
    assert backend() == usual
    with pytest.raises(ValueError, match="name is 'flash'"), attention_backend("flash"):
        pass


def test_a_new_backend_is_one_object_and_one_line(monkeypatch):
    """It is asked first, computes what it supports, and can be forced by its name."""
    asked = []

    def why_unsupported(call):
        asked.append((call.verb, call.layout is None, call.autocast))
        return None if call.verb == "attention" else "it only attends"

    toy = Backend("toy", why_unsupported, lambda call, q, k, v: 2 * v, REFERENCE.encode)
    monkeypatch.setattr(choice, "BACKENDS", (toy, *BACKENDS))
    q, k, v = draw((30, 70))
    layout = PointBatch.from_sizes((30, 70))
    assert torch.equal(ragged_flare_attention(q, k, v, layout), 2 * v)
    assert torch.equal(flare_attention(q, dense(k), dense(v)), 2 * dense(v))
    state = ragged_flare_encode(q, k, v, layout)
    assert state.value.shape == (2, 3, 5, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ragged_flare_attention(q, k, v, layout)
    assert asked == [
        ("attention", False, None),
        ("attention", True, None),
        ("encode", False, None),
        ("attention", False, torch.bfloat16),
    ]
    with attention_backend("toy"):
        with pytest.raises(ValueError, match="'toy'.*it only attends"):
            ragged_flare_encode(q, k, v, layout)
        with pytest.raises(ValueError, match="'toy'.*decode"):
            ragged_flare_decode(q, k, state.value, layout)


@kernels
def test_the_log_says_which_backend_and_why(caplog):
    q, k, v = draw((30, 70))
    layout = PointBatch.from_sizes((30, 70))

    def logged(*arguments):
        caplog.clear()
        ragged_flare_attention(*arguments, layout)
        return caplog.messages

    name = choice.__name__
    with caplog.at_level(logging.INFO, name):
        assert logged(q, k, v) == []
    with caplog.at_level(logging.DEBUG, name):
        assert logged(q, k, v) == ["attention: using shared_scores"]
        half = [t.bfloat16() for t in (q, k, v)]
        (message,) = logged(*half)
        assert message.startswith("attention: using sdpa; not shared_scores: ")
        assert "torch.bfloat16" in message
        with attention_backend("reference"):
            assert logged(q, k, v) == ["attention: using reference"]
        compiled = torch.compile(flare_attention, fullgraph=True, backend="eager")
        caplog.clear()
        compiled(q, dense(k), dense(v))
        assert [m for m in caplog.messages if m.startswith("attention:")] == []


@kernels
@pytest.mark.parametrize("backend", ON_CPU)
def test_backends_are_forced_where_it_is_compiled(backend):
    # torch 2.8 cannot trace the padding of unequal graphs.
    sizes = (50, 50) if torch.__version__ < "2.9" else (30, 70)
    q, k, v = draw(sizes)
    layout = PointBatch.from_sizes(sizes)
    expected = with_gradients(
        lambda *a: [ragged_flare_attention(*a, layout)], (q, k, v)
    )
    counted = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(ragged_flare_attention, fullgraph=True, backend=counted)
    with attention_backend(backend):
        found = with_gradients(lambda *a: [compiled(*a, layout)], (q, k, v))
    torch.testing.assert_close(found, expected)
    names = {str(node.target) for g in counted.graphs for node in g.graph.nodes}
    used = "torch_geometric_flare.attention.default" in names
    assert used == (backend == "shared_scores")


def test_modules_follow():
    conv = FLAREConv(8, heads=2, num_latents=5, kv_layers=0).double()
    x = torch.randn(50, 8, dtype=torch.float64)
    k, v = (mlp(x).view(50, 2, 4) for mlp in (conv.key_mlp, conv.value_mlp))
    y = reference_flare_attention(conv.latents, dense(k), dense(v))
    expected = conv.out(y[0].transpose(0, 1).flatten(1))
    for backend in ON_CPU:
        with attention_backend(backend):
            torch.testing.assert_close(conv(x), expected)
    with attention_backend("varlen"), pytest.raises(ValueError, match="'varlen'"):
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
    with pytest.raises(ValueError, match=r"v .* layout .* v.to_dense\(\)"):
        ragged_flare_attention(q, k, convert(v), layout)
    points = [dense(t).contiguous() for t in (k, v)]
    with pytest.raises(ValueError, match=r"k .* layout .* k.to_dense\(\)"):
        flare_attention(q, convert(points[0]), points[1])
    with pytest.raises(ValueError, match=r"x .* layout .* x.to_dense\(\)"):
        FLAREConv(4, heads=2)(convert(torch.randn(10, 4)))
