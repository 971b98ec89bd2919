"""The CPU kernels as operators of torch: what `torch.compile` runs."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.library import opcheck
from torch.utils.flop_counter import FlopCounterMode

from torch_geometric_flare import FLARE
from torch_geometric_flare.functional import PointBatch, ragged_flare_attention
from torch_geometric_flare.functional.attention.shared_scores import attention
from torch_geometric_flare.functional.mlp import mlp_operator
from torch_geometric_flare.kernels.llvm import is_available
from torch_geometric_flare.testing import assert_same_function

pytestmark = pytest.mark.skipif(
    not is_available(), reason="there is no LLVM for this processor"
)

SIZES = (10, 21)
# It asks for gradients of copies, which torch 2.15 warns about.
OPCHECK = pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not"
)


def points(latents=1):
    shapes = (latents, 2, 5, 4), (31, 2, 4), (31, 2, 4)
    return [torch.randn(*s, dtype=torch.float64) for s in shapes]


def run(q, k, v):
    return attention(q, k, v, SIZES, 0.7)[0]


def reference(q, k, v):
    parts = []
    for i, (a, b) in enumerate(zip(k.split(SIZES), v.split(SIZES), strict=True)):
        scores = 0.7 * a.transpose(0, 1) @ q[min(i, q.size(0) - 1)].mT
        z = scores.softmax(dim=1).mT @ b.transpose(0, 1)
        parts.append((scores.softmax(dim=2) @ z).transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("latents", [1, 2])
def test_attention_equals_the_reference(latents):
    assert_same_function(run, reference, points(latents))


def test_no_number_stays_in_its_graph():
    q, k, v = points()
    k[3, 1, 2] = torch.nan
    y = run(q, k, v)
    assert y[:10, 1].isnan().all() and not y[:10, 0].isnan().any()
    assert torch.equal(y[10:], run(q, k.nan_to_num(), v)[10:])


@OPCHECK
@pytest.mark.parametrize("latents", [1, 2])
@pytest.mark.parametrize("factor", [1.0, 1e305])
def test_attention_obeys_the_laws_of_operators(latents, factor):
    q, k, v = points(latents)
    k[:10] *= factor
    inputs = tuple(t.requires_grad_() for t in (q, k, v))
    opcheck(attention, (*inputs, SIZES, 0.7))
    opcheck(attention, (*inputs, SIZES, 0.7, torch.rand(len(k), dtype=k.dtype).log()))


@OPCHECK
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize(("channels", "kinds"), [(8, [3, 2]), (3, [1, 0])])
def test_residual_mlp_obeys_the_laws_of_operators(frozen, channels, kinds):
    x = torch.randn(20, channels, dtype=torch.float64, requires_grad=True)
    shapes = (8, channels), (channels, 8), (8,), (channels,)
    maps = [
        torch.randn(s, dtype=torch.float64, requires_grad=not frozen) for s in shapes
    ]
    opcheck(mlp_operator, (x, maps[:2], maps[2:], kinds))


def test_a_compiled_network_is_the_network():
    torch.manual_seed(0)
    model = FLARE(3, 16, 2, num_layers=2, heads=2, num_latents=8).double()
    counted = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=counted)
    frames = []
    for n in (3000, 5000, 7000):
        x = torch.rand(n, 3, dtype=torch.float64)
        found, expected = [], []
        for run, results in ((compiled, found), (model, expected)):
            model.zero_grad()
            y = run(x)
            y.square().mean().backward()
            results += [y, *(p.grad for p in model.parameters())]
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
        frames.append(counted.frame_count)
    assert frames[0] == frames[-1]  # nothing is compiled again for another size
    names = {str(node.target) for g in counted.graphs for node in g.graph.nodes}
    for name in ("attention", "residual_mlp"):
        assert f"torch_geometric_flare.{name}.default" in names


def test_profiler_and_flop_counter_know_them():
    q, k, v = (t.requires_grad_() for t in points())
    layout = PointBatch.from_sizes(SIZES)
    compiled = torch.compile(
        lambda q, k, v: ragged_flare_attention(q[0], k, v, layout), backend="aot_eager"
    )
    with torch.profiler.profile() as profile:
        compiled(q, k, v).sum().backward()
    names = {event.key for event in profile.key_averages()}
    assert "torch_geometric_flare::attention" in names
    assert "torch_geometric_flare::attention_gradients" in names
    with FlopCounterMode(display=False) as counter:
        attention(q, k, v, SIZES, 0.7)[0].sum().backward()
        x, w = torch.randn(20, 16), torch.randn(16, 16, requires_grad=True)
        mlp_operator(x, [w], [torch.zeros(16)], [3]).sum().backward()
    # Scores, gathering and scattering; then scores and two products for each input.
    attended = (3 + 7) * 2 * 31 * 2 * 5 * 4
    # The layer; then again, and a product for each input.
    assert counter.get_total_flops() == attended + (1 + 3) * 2 * 20 * 16 * 16


def test_what_the_kernels_do_not_fit_is_refused():
    q, k, v = points()
    with pytest.raises(
        ValueError, match=r"expected torch.float64 of shape \(40, 2, 4\)"
    ):
        attention(q, k, v, (10, 30), 1.0)
    x, w = torch.randn(20, 16), torch.randn(16, 16)
    for wrong, kind, message in (
        (torch.randn(32, 16), 3, "cannot follow 16 channels"),
        (torch.randn(16, 32), 1, r"shape \(20, 16\), expected \[N, 32\]"),
        (w.double(), 1, "is not torch.float32"),
    ):
        with pytest.raises(ValueError, match=message):
            mlp_operator(
                x, [wrong], [torch.zeros(wrong.size(0), dtype=wrong.dtype)], [kind]
            )
