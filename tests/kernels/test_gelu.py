"""The GELU in the kernel of the residual MLP, with an identity as weight."""

import pytest
import torch
from torch.nn.functional import gelu

from torch_geometric_flare.kernels.llvm import is_available
from torch_geometric_flare.kernels.residual_mlp import Layer, backward, forward

pytestmark = pytest.mark.skipif(
    not is_available(), reason="there is no LLVM for this processor"
)


def value_and_gradient(h, g, residual=False):
    layers = (Layer(16, 16, True, residual),)
    parameters = [(torch.eye(16, dtype=h.dtype), None)]
    h, g = (t.view(-1, 16) for t in (h, g))
    y = forward(h, layers, parameters)
    gradient, _ = backward(h, layers, parameters, g)
    return y.flatten(), gradient.flatten()


@pytest.mark.parametrize("size", [16, 32, 1008, 600_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("residual", [True, False])
def test_equals_torch(size, dtype, residual):
    h = torch.linspace(-40, 40, size, dtype=torch.float64).requires_grad_()
    y = gelu(h, approximate="tanh") + (h if residual else 0.0)
    g = torch.randn(size, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(y, h, g)
    h, g, y = (t.detach().to(dtype) for t in (h, g, y))
    # Where one of the two terms of the slope is minus the other.
    close = {"atol": 4e-5 if dtype == torch.float32 else 1e-12, "rtol": 1e-5}
    found = value_and_gradient(h, g, residual)
    torch.testing.assert_close(found[0], y, **close)
    torch.testing.assert_close(found[1], gradient.to(dtype), **close)


def test_far_from_zero():
    h = torch.tensor([-1e35, -1e10, -1e4, -50, 50, 1e4, 1e10, 1e35] * 2)
    y, gradient = value_and_gradient(h, torch.ones(16))
    torch.testing.assert_close(y, h.relu(), atol=1e-20, rtol=1e-6)
    torch.testing.assert_close(gradient, (h > 0).float(), atol=1e-20, rtol=1e-6)


def test_what_is_not_finite_stays_so():
    h = torch.zeros(32)
    h[3] = torch.nan
    y, gradient = value_and_gradient(h, torch.ones(32))
    assert y[:16].isnan().all() and not y[16:].isnan().any()
    assert gradient[3].isnan() and not gradient[16:].isnan().any()
    h = torch.zeros(16)
    h[0] = torch.inf
    y, _ = value_and_gradient(h, torch.ones(16))
    assert y[0] == torch.inf
