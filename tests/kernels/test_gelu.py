import pytest
import torch
from torch.nn.functional import gelu as torch_gelu

from torch_geometric_flare.kernels.gelu import add_gelu, gelu_gradient
from torch_geometric_flare.kernels.llvm import is_available

pytestmark = pytest.mark.skipif(
    not is_available(), reason="there is no LLVM for this processor"
)


@pytest.mark.parametrize("size", [16, 17, 31, 1000, 600_001])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_torch(size, dtype):
    h = torch.linspace(-40, 40, size, dtype=torch.float64).requires_grad_()
    y = torch_gelu(h, approximate="tanh")
    g = torch.randn(size, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(y, h, g)
    h, g, y = (t.detach().to(dtype) for t in (h, g, y))
    # Where one of the two terms of the slope is minus the other.
    close = {"atol": 4e-5 if dtype == torch.float32 else 1e-12, "rtol": 1e-5}
    torch.testing.assert_close(add_gelu(h, None), y, **close)
    torch.testing.assert_close(add_gelu(h, g), g + y, **close)
    torch.testing.assert_close(gelu_gradient(h, g), gradient.to(dtype), **close)


def test_what_is_not_finite_stays_so():
    h = torch.tensor([torch.nan, torch.inf] * 8)
    y = add_gelu(h, None)
    assert y[0].isnan() and y[1] == torch.inf
    assert gelu_gradient(h, torch.ones(16))[0].isnan()


def test_far_from_zero():
    h = torch.tensor([-1e35, -1e10, -1e4, -50, 50, 1e4, 1e10, 1e35] * 2)
    one = torch.ones(16)
    torch.testing.assert_close(add_gelu(h, None), h.relu(), atol=1e-20, rtol=1e-6)
    torch.testing.assert_close(
        gelu_gradient(h, one), (h > 0).float(), atol=1e-20, rtol=1e-6
    )


def test_fewer_elements_than_a_vector_are_refused():
    with pytest.raises(ValueError, match="1 elements, expected at least"):
        add_gelu(torch.zeros(1), None)
