"""Whatever looks at, or changes, a module's operations meets operations of torch."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing._internal.two_tensor import TwoTensor

from torch_geometric_flare.nn import FLAREConv, ResidualMLP


@pytest.fixture(params=["conv", "mlp"])
def module(request):
    if request.param == "conv":
        return FLAREConv(32, heads=4, num_latents=16).double()
    return ResidualMLP(32, 32, 32).double()


@pytest.fixture
def x():
    return torch.randn(1000, 32, dtype=torch.float64)


def test_tracing(module, x):
    traced = make_fx(module)(x)
    torch.testing.assert_close(traced(2 * x), module(2 * x))


def test_default_device(module, x):
    expected = module(x)
    with torch.device("meta"):
        torch.testing.assert_close(module(x), expected)
    torch.testing.assert_close(module(x), expected)


def test_forward_mode(module, x):
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        found = forward_ad.unpack_dual(module(dual)).tangent
    _, tangent = torch.func.jvp(module, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(found, tangent)


def test_batches_of_gradients(module, x):
    x.requires_grad_()
    y = module(x)
    grads = torch.randn(3, *y.shape, dtype=y.dtype)
    (found,) = torch.autograd.grad(
        y, x, grads, is_grads_batched=True, retain_graph=True
    )
    for grad, one in zip(grads, found, strict=True):
        (alone,) = torch.autograd.grad(y, x, grad, retain_graph=True)
        torch.testing.assert_close(one, alone)


def test_saved_tensors_in_another_layout(module, x):
    def pack(t):
        return t.mT.contiguous() if t.dim() > 1 else t

    def unpack(t):
        return t.mT if t.dim() > 1 else t

    x.requires_grad_()
    (expected,) = torch.autograd.grad(module(x).square().sum(), x)
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        y = module(x).square().sum()
    torch.testing.assert_close(torch.autograd.grad(y, x)[0], expected)


def test_negated_views(module, x):
    torch.testing.assert_close(module(torch._neg_view(x)), module(-x))


def test_tensors_of_other_classes():
    mlp, x = ResidualMLP(32, 32, 32), torch.randn(1000, 32)
    y = mlp(TwoTensor(x, x))
    assert isinstance(y, TwoTensor)
    torch.testing.assert_close(y.a, mlp(x), atol=1e-5, rtol=1e-4)
