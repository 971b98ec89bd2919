import pytest
import torch

from torch_geometric_flare.kernels import llvm, vector_code

pytestmark = pytest.mark.skipif(
    not llvm.is_available(), reason="there is no LLVM for this processor"
)


@pytest.fixture(params=[16, 32, 64], ids=lambda n: f"{n}_bytes")
def width(request, monkeypatch):
    monkeypatch.setattr(llvm, "vector_bytes", lambda: request.param)
    return request.param


def pointwise(dtype, body):
    """Compile a function of one vector; LLVM splits those that are too wide."""
    c = vector_code.VectorCode("pointwise", dtype, ("x", "y"), ())
    with c.range(c["start"], c["stop"], c.lanes) as i:
        c.store(body(c, c.load(c.at(c["x"], i))), c.at(c["y"], i))
    kernel = c.compile()

    def apply(x):
        y = torch.empty_like(x)
        third = len(x) // 3 // c.lanes * c.lanes
        bounds = [0, third, 2 * third, len(x)]
        tasks = [[0, a, b, 0] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
        kernel(torch.tensor(tasks), 3, x.data_ptr(), y.data_ptr())
        return y

    return apply


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exp2(width, dtype):
    limit = 125 if dtype == torch.float32 else 1020
    x = torch.linspace(-limit, limit, 1 << 16, dtype=dtype)
    found = pointwise(dtype, vector_code.VectorCode.exp2)(x)
    wanted = torch.exp2(x.double()).to(dtype)
    torch.testing.assert_close(found, wanted, atol=0, rtol=3 * torch.finfo(dtype).eps)
    exact = torch.arange(-limit, limit + 1, dtype=dtype)
    exact = exact[: len(exact) // 16 * 16]
    torch.testing.assert_close(
        pointwise(dtype, vector_code.VectorCode.exp2)(exact), torch.exp2(exact)
    )


def test_clamp():
    x = torch.tensor([-torch.inf, -3, -2, 0, 1, 2, 9, torch.inf] * 8)
    found = pointwise(torch.float32, lambda c, x: c.clamp(x, c.constant(2.0)))(x)
    assert torch.equal(found, x.clamp(-2, 2))


@pytest.mark.parametrize("columns", [1, 3, 4, 8, 16, 17, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_columns_are_loaded_and_stored(width, dtype, columns):
    c = vector_code.VectorCode("double", dtype, ("x", "y"), ("row",))
    with c.range(c["start"], c["stop"], c.lanes) as first:
        x, y = (
            [c.at(c[name], c.mul(c.add(first, i), c["row"])) for i in range(c.lanes)]
            for name in ("x", "y")
        )
        found = c.load_columns(x, columns)
        assert len(found) == columns
        c.store_columns([c.builder.fadd(v, v) for v in found[::-1]], y)
    kernel = c.compile()
    x = torch.randn(64, columns + 2, dtype=dtype)
    y = torch.zeros_like(x)
    tasks = torch.tensor([[0, 0, 64, 0]])
    kernel(tasks, 1, x.data_ptr(), y.data_ptr(), x.stride(0))
    assert torch.equal(y[:, :columns], 2 * x[:, :columns].flip(1))
    assert not y[:, columns:].any()
