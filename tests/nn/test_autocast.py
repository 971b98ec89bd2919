"""On a CPU, half precision only where it is the quicker way."""

import pytest
import torch

from torch_geometric_flare import FLARE
from torch_geometric_flare.functional import (
    flare_decode,
    flare_encode,
    ragged_flare_attention,
)
from torch_geometric_flare.functional.point_batch import PointBatch
from torch_geometric_flare.kernels.llvm import is_available
from torch_geometric_flare.nn import PhysicsAttention, ResidualMLP

FLAG = "torch_geometric_flare.nn.autocast.CPU_COMPUTES_BF16"


def half():
    return torch.autocast("cpu", torch.bfloat16)


def precisions(model, x, part):
    """Precision in which a part computes, and that of the result."""
    seen = []
    hook = part.register_forward_hook(lambda *args: seen.append(args[-1].dtype))
    with half():
        y = model(x)
    hook.remove()
    return {*seen}, y.dtype


@pytest.mark.skipif(not is_available(), reason="there is no LLVM for this processor")
def test_a_network_of_kernels_computes_in_single_precision(monkeypatch):
    model, x = FLARE(3, 32, 2, num_layers=2, heads=4, num_latents=8), torch.rand(90, 3)
    for native in (True, False):
        monkeypatch.setattr(FLAG, native)
        found = precisions(model, x, model.blocks[0].mixer.out)
        assert found == ({torch.float32}, torch.bfloat16)
        with half():
            y = model(x)
        assert torch.equal(y, model(x).bfloat16())


@pytest.mark.parametrize("native", [True, False])
def test_others_do_where_the_processor_imitates_half_precision(native, monkeypatch):
    monkeypatch.setattr(FLAG, native)
    inside = torch.bfloat16 if native else torch.float32
    wide = FLARE(3, 12, 2, num_layers=1, heads=4, num_latents=8)
    for model, x, part in (
        (wide, torch.rand(90, 3), wide.blocks[0].mixer.out),
        (conv := PhysicsAttention(16, heads=2), torch.rand(90, 16), conv.out),
    ):
        assert precisions(model, x, part) == ({inside}, torch.bfloat16)


def test_what_is_not_all_single_precision_stays():
    model = FLARE(3, 32, 2, num_layers=1, heads=4, num_latents=8)
    x = torch.rand(90, 3)
    with half():
        assert model.bfloat16()(x).dtype == torch.bfloat16
        assert model.double()(x.double()).dtype == torch.float64
        model.float()
        y = model(x.bfloat16())
    expected = model(x)
    assert (y - expected).norm() < 0.05 * expected.norm()


@pytest.mark.skipif(not is_available(), reason="there is no LLVM for this processor")
def test_operations_keep_the_kernels():
    """Each in float32, from and to what autocast would take and give."""
    q, (k, v) = torch.randn(4, 16, 8), torch.randn(2, 3000, 4, 8)
    low = [t.bfloat16() for t in (q, k, v)]
    layout = PointBatch.from_sizes((1000, 2000))
    with half():
        y = ragged_flare_attention(*low, layout)
        assert ragged_flare_attention(q, k, v, layout).dtype == torch.bfloat16
        dense = [low[0], *(t.transpose(0, 1)[None] for t in low[1:])]
        state = flare_encode(*dense)
        back = flare_decode(*dense[:2], state.value)
    assert state.value.dtype == torch.float32
    exact = [t.float() for t in low]
    expected = ragged_flare_attention(*exact, layout)
    assert torch.equal(y, expected.bfloat16())
    dense = [t.float() for t in dense]
    z = flare_encode(*dense).value
    assert torch.equal(state.value, z)
    z = z.bfloat16().float()  # in the precision of the queries
    assert torch.equal(back, flare_decode(*dense[:2], z).bfloat16())

    mlp, x = ResidualMLP(32, 32, 32), torch.randn(3000, 32).bfloat16()
    with half():
        y = mlp(x)
    assert torch.equal(y, mlp(x.float()).bfloat16())


def test_without_kernels_autocast_does_its_work(monkeypatch):
    monkeypatch.setattr(FLAG, True)
    mlp = "torch_geometric_flare.functional.mlp"
    monkeypatch.setattr(f"{mlp}.is_available", lambda: False)
    model = FLARE(3, 32, 2, num_layers=1, heads=4, num_latents=8)
    found = precisions(model, torch.rand(90, 3), model.blocks[0].mixer.out)
    assert found == ({torch.bfloat16}, torch.bfloat16)


@pytest.mark.slow
def test_compiled():
    model = FLARE(3, 32, 2, num_layers=1, heads=4, num_latents=8)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.rand(2000, 3)
    with half():
        y = compiled(x)
        torch.testing.assert_close(y, model(x))
    y.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
