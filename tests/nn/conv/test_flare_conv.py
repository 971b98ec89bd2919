import copy
import pickle

import pytest
import torch
import torch.distributed as dist
import torch_geometric
from torch_geometric.nn import Sequential

from torch_geometric_flare import FLAREConv, PointBatch
from torch_geometric_flare.functional import reduce_gradients, reference_flare_attention
from torch_geometric_flare.testing import (
    assert_batch_invariant,
    assert_permutation_equivariant,
    assert_point_parallel,
    run_processes,
)

BATCH = torch.tensor([0] * 10 + [1] * 3 + [3] * 50)


def draw(points=63, channels=8, dtype=torch.float64):
    return torch.randn(points, channels, dtype=dtype)


def spread(conv):
    """Draw parameters large enough for attention to be far from uniform."""
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.normal_(std=0.5)
    return conv


def conv_of(*args, **kwargs):
    return spread(FLAREConv(*args, **kwargs).double())


def test_formula():
    conv = conv_of(8, 12, heads=4, num_latents=5, head_channels=6, scale=0.3)
    x = draw()
    k = conv.key_mlp(x).view(1, -1, 4, 6).transpose(1, 2)
    v = conv.value_mlp(x).view(1, -1, 4, 6).transpose(1, 2)
    y = reference_flare_attention(conv.latents, k, v, scale=0.3)
    expected = conv.out(y[0].transpose(0, 1).flatten(1))
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("kv_layers", [-1, 3])
def test_batch_invariant(qk_norm, kv_layers):
    conv = conv_of(8, heads=2, num_latents=5, qk_norm=qk_norm, kv_layers=kv_layers)
    assert_batch_invariant(conv, 8, atol=1e-9)


@pytest.mark.parametrize("sizes", [(7, 7, 7), (0, 0, 3), (300,), (10, 900, 20, 905)])
def test_batch_invariant_in_other_layouts(sizes):
    assert_batch_invariant(conv_of(8, heads=2, num_latents=5), 8, sizes)


def test_the_law_notices_a_leak():
    class Leaky(torch.nn.Module):
        def forward(self, x, batch=None, batch_size=None):
            return x - x.mean(dim=0)

    with pytest.raises(AssertionError):
        assert_batch_invariant(Leaky(), 8)


def test_permutation_equivariant():
    conv = conv_of(8, heads=2, num_latents=5)
    assert_permutation_equivariant(conv, draw(), BATCH)


def test_the_law_notices_an_order():
    class Ordered(torch.nn.Module):
        def forward(self, x, batch=None):
            return x.cumsum(dim=0)

    with pytest.raises(AssertionError):
        assert_permutation_equivariant(Ordered(), draw())


def test_encode_then_decode():
    conv = conv_of(8, heads=2, num_latents=5, scale=0.4)
    x = draw()
    state = conv.encode(x, BATCH, 5)
    assert state.value.shape == (5, 2, 5, 4)
    torch.testing.assert_close(conv.decode(state, x, BATCH), conv(x, BATCH, 5))
    left, right = conv.encode(x[:20]), conv.encode(x[20:])
    torch.testing.assert_close(conv.decode(left.merge(right), x), conv(x))


def test_encode_one_set_and_decode_at_another():
    conv = conv_of(8, heads=2, num_latents=5)
    source, query = draw(), draw(30)
    query_batch = torch.tensor([0] * 10 + [2] * 5 + [3] * 15)
    y = conv((source, query), (BATCH, query_batch))
    for graph in (0, 3):
        alone = conv((source[graph == BATCH], query[query_batch == graph]))
        torch.testing.assert_close(y[query_batch == graph], alone)
    # Graph 2 has queries but no source: a sum over nothing, then the output map.
    nothing = conv.out(torch.zeros(5, 8, dtype=torch.float64))
    torch.testing.assert_close(y[query_batch == 2], nothing)
    torch.testing.assert_close(
        conv((source, source), (BATCH, BATCH)), conv(source, BATCH)
    )


@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
def test_chunks_of_a_pair(chunk_size):
    conv = conv_of(8, heads=2, num_latents=5)
    pair, batches = (
        (draw(), draw(30)),
        (BATCH, torch.arange(4).repeat_interleave(8)[2:]),
    )
    expected = conv(pair, batches)
    conv.chunk_size = chunk_size
    torch.testing.assert_close(conv(pair, batches), expected)


def test_attention_weights_are_those_of_forward():
    # Scale is not 1 here: the weights must carry it as the fast path does.
    conv = conv_of(8, heads=2, num_latents=5, scale=0.25)
    x = draw()
    gather, scatter = conv.attention_weights(x, BATCH)
    assert gather.shape == scatter.shape == (63, 2, 5)
    values = conv.value_mlp(x).view(63, 2, 4)
    y = torch.empty_like(values)
    for graph in (0, 1, 3):
        rows = graph == BATCH
        z = torch.einsum("nhm,nhd->hmd", gather[rows], values[rows])
        y[rows] = torch.einsum("nhm,hmd->nhd", scatter[rows], z)
        torch.testing.assert_close(gather[rows].sum(0), torch.ones(2, 5).double())
    torch.testing.assert_close(conv.out(y.flatten(1)), conv(x, BATCH))


def test_layout_instead_of_batch_vector():
    conv = conv_of(8, heads=2, num_latents=5)
    sizes = (10, 900, 20, 905)
    x = draw(sum(sizes))
    batch = torch.arange(4).repeat_interleave(torch.tensor(sizes))
    layout = PointBatch.from_batch(x, batch)
    assert layout.order is not None
    y = layout.unsort(conv(layout.sort(x), layout))
    torch.testing.assert_close(y, conv(x, batch))
    with pytest.raises(ValueError, match="has 1835 points but x has 5 rows"):
        conv(x[:5], layout)


def test_in_pyg_sequential():
    model = Sequential(
        "x, batch",
        [(FLAREConv(8, heads=2), "x, batch -> x"), torch.nn.ReLU(), FLAREConv(8)],
    )
    assert model(draw(dtype=torch.float32), BATCH).shape == (63, 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision(dtype):
    conv = conv_of(8, heads=2, num_latents=5, qk_norm=True)
    x = draw()
    expected = conv(x, BATCH)
    y = copy.deepcopy(conv).to(dtype)(x.to(dtype), BATCH)
    assert y.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    tolerance *= expected.abs().max().item()
    torch.testing.assert_close(y.double(), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("qk_norm", [False, True])
def test_autocast(qk_norm):
    conv = spread(FLAREConv(8, heads=2, num_latents=5, qk_norm=qk_norm))
    x = draw(dtype=torch.float32).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x, BATCH)
        state = conv.encode(x, BATCH)
    assert y.dtype == torch.bfloat16 and state.value.dtype == torch.float32
    expected = conv(x, BATCH)
    tolerance = 0.1 * expected.abs().max().item()
    torch.testing.assert_close(y.float(), expected, atol=tolerance, rtol=0)
    y.float().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in conv.parameters())


def test_double_backward():
    conv = conv_of(3, 4, heads=2, num_latents=3)
    x = draw(9, 3).requires_grad_()
    batch = torch.tensor([0] * 4 + [1] * 5)
    assert torch.autograd.gradgradcheck(lambda x: conv(x, batch), (x,))


@pytest.mark.slow
def test_compile_without_graph_break():
    # Compiled and eager take different ways: large scores would differ by rounding.
    conv = spread(FLAREConv(8, heads=2, num_latents=5)).double()
    x = draw()
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), conv(x))
    first = torch.autograd.grad(compiled(x).cos().sum(), conv.latents)
    second = torch.autograd.grad(conv(x).cos().sum(), conv.latents)
    torch.testing.assert_close(first, second)


def test_round_trips():
    conv = conv_of(8, heads=2, num_latents=5)
    x = draw()
    fresh = FLAREConv(8, heads=2, num_latents=5).double()
    fresh.load_state_dict(conv.state_dict())
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv)), fresh):
        assert torch.equal(other(x, BATCH), conv(x, BATCH))


def test_reset_parameters_changes_every_parameter():
    conv = FLAREConv(8, heads=2, num_latents=5, qk_norm=True)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.fill_(7)
    conv.reset_parameters()
    for name, parameter in conv.named_parameters():
        assert not (parameter == 7).any(), name


def test_initialisation():
    conv = FLAREConv(64, num_latents=64, init="paper")
    assert conv.latents.shape == (8, 64, 8)
    assert conv.latents.std().item() == pytest.approx(0.1, rel=0.05)
    scaled = FLAREConv(64, num_latents=64, scale=-0.5)
    expected = 1 / (0.5 * 8**0.5)  # scores of unit deviation
    assert scaled.latents.std().item() == pytest.approx(expected, rel=0.05)
    assert conv.out.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert all(p.ndim > 1 for p in FLAREConv(8, bias=False).parameters())


def test_debug_mode_reports_values_that_are_not_finite():
    conv = conv_of(8, heads=2)
    x = draw()
    x[3, 2] = torch.nan
    conv(x)
    with torch_geometric.debug(), pytest.raises(ValueError, match="x holds 1 values"):
        conv(x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, "in_channels is 0"),
        ({"in_channels": 8, "heads": 0}, "heads is 0"),
        ({"in_channels": 8, "num_latents": -1}, "num_latents is -1"),
        ({"in_channels": 8, "heads": 3}, "out_channels is 8, which .*heads=3"),
        ({"in_channels": 8, "head_channels": 0}, "head_channels is 0"),
    ],
)
def test_constructor_errors(options, message):
    with pytest.raises(ValueError, match=message):
        FLAREConv(**options)


@pytest.mark.parametrize(
    ("x", "batch", "batch_size", "message"),
    [
        (torch.randn(5, 7), None, None, r"x has shape \(5, 7\), expected \[N, 8\]"),
        (torch.randn(2, 5, 8), None, None, "pass a mask"),
        (torch.randn(5, 8), torch.tensor([0, 1, 0, 0, 0]), None, "unsorted"),
        (torch.randn(5, 8), torch.tensor([0, 1]), None, r"expected \(5,\)"),
        (torch.randn(5, 8), torch.tensor([0, 0, 0, 1, 2]), 2, "batch_size is 2"),
        (torch.randn(5, 8), (None, None), None, "batch is a pair"),
    ],
)
def test_forward_errors(x, batch, batch_size, message):
    with pytest.raises(ValueError, match=message):
        FLAREConv(8)(x, batch, batch_size)


def test_repr():
    assert str(FLAREConv(16, 32)) == "FLAREConv(16, 32, heads=8, num_latents=64)"


@pytest.mark.parametrize("chunk_size", [None, 7])
@pytest.mark.parametrize("shards", [(20, 43), (63, 0)])
def test_point_parallel(chunk_size, shards):
    conv = conv_of(8, heads=2, num_latents=5, qk_norm=True, chunk_size=chunk_size)
    assert_point_parallel(conv, 8, sizes=(20, 0, 40, 3), shards=shards)


def encode_and_decode_in_parts(conv, source, query, batches):
    """A pair of point sets, the sources on one process, the queries on the other."""
    group = dist.group.WORLD
    source_batch, query_batch = batches
    here = slice(None) if group.rank() == 0 else slice(0)
    there = slice(0) if group.rank() == 0 else slice(None)
    x = (source[here].requires_grad_(), query[there].requires_grad_())
    batch = (source_batch[here], query_batch[there])
    y = conv(x, batch, group=group)
    state = conv.encode(x[0], batch[0], 4, group=group)
    torch.testing.assert_close(y, conv.decode(state, x[1], batch[1]))
    y.square().sum().backward()
    reduce_gradients(conv.parameters(), group)
    return [y.detach(), x[0].grad, x[1].grad, conv.latents.grad]


def test_point_parallel_with_a_pair():
    conv = conv_of(8, heads=2, num_latents=5)
    x = draw().requires_grad_(), draw(30).requires_grad_()
    batch = BATCH, torch.tensor([0] * 10 + [1] * 5 + [3] * 15)
    y = conv(x, batch)
    y.square().sum().backward()
    first, second = run_processes(
        encode_and_decode_in_parts, 2, conv, x[0].detach(), x[1].detach(), batch
    )
    assert [len(part) for part in first[:3]] == [0, 63, 0]
    for found, wanted in (
        (second[0], y.detach()),
        (first[1], x[0].grad),
        (second[2], x[1].grad),
        (first[3], conv.latents.grad),
        (second[3], conv.latents.grad),
    ):
        torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-10)


def run_in_half_precision(conv, x, cut):
    group = dist.group.WORLD
    x = x[:cut] if group.rank() == 0 else x[cut:]
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x, group=group)
    y.float().sum().backward()
    return y.detach(), [p.grad for p in conv.parameters()]


@pytest.mark.parametrize("cut", [0, 20])
def test_point_parallel_with_autocast(cut):
    conv = spread(FLAREConv(8, heads=2, num_latents=5, qk_norm=True))
    x = draw(dtype=torch.float32)
    expected = conv(x).detach()
    results = run_processes(run_in_half_precision, 2, conv, x, cut)
    y = torch.cat([part for part, _ in results])
    assert y.dtype == torch.bfloat16
    tolerance = 0.1 * expected.abs().max().item()
    torch.testing.assert_close(y.float(), expected, atol=tolerance, rtol=0)
    assert all(torch.isfinite(g).all() for _, grads in results for g in grads)


def compile_and_compare(conv, x):
    group = dist.group.WORLD
    x = x[:20] if group.rank() == 0 else x[20:]
    results = []
    for module in (conv, torch.compile(conv, backend="aot_eager")):
        conv.zero_grad()
        y = module(x, group=group)
        y.cos().sum().backward()
        results.append([y.detach(), conv.latents.grad.clone()])
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.slow
def test_point_parallel_and_compiled():
    conv = conv_of(8, heads=2, num_latents=5)
    run_processes(compile_and_compare, 2, conv, draw())
