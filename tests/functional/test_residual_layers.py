import pytest
import torch
from torch.nn.functional import gelu, linear

from torch_geometric_flare.functional import gelu_layer as module
from torch_geometric_flare.functional.gelu_layer import gelu_layer
from torch_geometric_flare.testing import assert_same_function


def definition(x, weight, bias=None, residual=False):
    y = gelu(linear(x, weight, bias), approximate="tanh")
    return x + y if residual else y


@pytest.fixture(autouse=True)
def any_size(monkeypatch):
    monkeypatch.setattr(module, "_LEAST_ELEMENTS", 16)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_equals_the_definition(residual, biased):
    inputs = [
        torch.randn(5, 7, 6, dtype=torch.float64),
        torch.randn(6, 6, dtype=torch.float64),
    ]
    if biased:
        inputs.append(torch.randn(6, dtype=torch.float64))
    assert_same_function(
        lambda x, w, b=None: gelu_layer(x, w, b, residual),
        lambda x, w, b=None: definition(x, w, b, residual),
        inputs,
        second_order=True,
    )


def test_single_precision():
    x, weight, bias = torch.randn(1000, 32), torch.randn(48, 32), torch.randn(48)
    inputs = [t.requires_grad_() for t in (x, weight, bias)]
    doubles = [t.detach().double().requires_grad_() for t in inputs]
    y, wanted = gelu_layer(*inputs, residual=False), definition(*doubles)
    torch.testing.assert_close(y.double(), wanted, atol=1e-4, rtol=1e-5)
    g = torch.randn(1000, 48)
    for found, expected in zip(
        torch.autograd.grad(y, inputs, g),
        torch.autograd.grad(wanted, doubles, g.double()),
        strict=True,
    ):
        error = (found - expected).norm() / expected.norm()
        assert error < 1e-5


def test_memory_layouts():
    x = torch.randn(8, 50, dtype=torch.float64).T
    weight = torch.randn(8, 8, dtype=torch.float64).T
    assert_same_function(
        lambda x, w: gelu_layer(x, w, None, True),
        lambda x, w: definition(x, w, None, True),
        (x, weight),
    )
    x.requires_grad_()
    gelu_layer(x, weight, None, True).sum().backward()  # an expanded gradient


def test_only_the_wanted_gradients(monkeypatch):
    x, weight, bias = torch.randn(10, 4), torch.randn(4, 4), torch.randn(4)
    gelu_layer(x, weight.requires_grad_(), bias, True).sum().backward()
    assert x.grad is None and bias.grad is None and weight.grad is not None


def test_otherwise_torch_is_left_to_it(monkeypatch):
    x, weight = torch.randn(50, 8), torch.randn(8, 8)
    assert gelu_layer(x, weight, None, True) is not None
    assert gelu_layer(x.half(), weight.half(), None, True) is None
    assert gelu_layer(x.double(), weight, None, True) is None
    assert gelu_layer(x[:0], weight, None, True) is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert gelu_layer(x, weight, None, True) is None
    seen = []

    def traced(x):
        seen.append(gelu_layer(x, weight, None, True))
        return x

    torch.func.vmap(traced)(x)
    torch.compile(traced, fullgraph=True, backend="eager")(x)
    assert seen == [None, None]
    monkeypatch.setattr(module, "is_available", lambda: False)
    assert gelu_layer(x, weight, None, True) is None
