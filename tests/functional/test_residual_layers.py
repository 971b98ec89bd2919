import pytest
import torch
from torch.nn.functional import gelu, linear

from torch_geometric_flare.functional import residual_layers as module
from torch_geometric_flare.functional.residual_layers import gelu_layer, gelu_layers
from torch_geometric_flare.kernels.llvm import is_available
from torch_geometric_flare.testing import assert_same_function


def definition(x, weight, bias=None, residual=False):
    y = gelu(linear(x, weight, bias), approximate="tanh")
    return x + y if residual else y


kernels = pytest.mark.skipif(
    not is_available(), reason="there is no LLVM for this processor"
)


@kernels
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_equals_the_definition(residual, biased):
    inputs = [
        torch.randn(35, 6, dtype=torch.float64),
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


@kernels
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


@kernels
def test_memory_layouts():
    """Any layout, through the door that chooses; 16,384 elements a layer are enough."""
    x = torch.randn(8, 2100, dtype=torch.float64).T
    weight = torch.randn(8, 8, dtype=torch.float64).T
    assert_same_function(
        lambda x, w: gelu_layers(x, [(w, None)], True),
        lambda x, w: definition(x, w, None, True),
        (x, weight),
    )
    x.requires_grad_()
    gelu_layers(x, [(weight, None)], True).sum().backward()  # an expanded gradient


@kernels
def test_several_layers():
    x = torch.randn(30, 70, 6, dtype=torch.float64)
    inputs = [x, *torch.randn(3, 8, 8, dtype=torch.float64)]
    inputs[1] = inputs[1][:, :6].contiguous()
    biases = torch.randn(3, 8, dtype=torch.float64)

    def defined(x, *weights):
        for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
            x = definition(x, w, b, residual=i > 0)
        return x

    assert_same_function(
        lambda x, *ws: gelu_layers(x, list(zip(ws, biases, strict=True)), False),
        defined,
        inputs,
        atol=1e-9,
    )


@kernels
def test_only_the_wanted_gradients():
    x, weight, bias = torch.randn(100, 4), torch.randn(4, 4), torch.randn(4)
    gelu_layer(x, weight.requires_grad_(), bias, True).sum().backward()
    assert x.grad is None and bias.grad is None and weight.grad is not None


@kernels
def test_otherwise_torch_is_left_to_it(monkeypatch):
    x, weight = torch.randn(3000, 8), torch.randn(8, 8)

    def run(x, weight):
        return gelu_layers(x, [(weight, None)], True)

    assert run(x, weight) is not None
    assert run(x[:100], weight) is None  # too small to gain
    assert run(x.half(), weight.half()) is None
    assert run(x.double(), weight) is None
    assert run(x[:0], weight) is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert run(x, weight) is None
    seen = []

    def traced(x):
        seen.append(run(x, weight))
        return x

    torch.func.vmap(traced)(x)
    torch.compile(traced, fullgraph=True, backend="eager")(x)
    assert seen == [None, None]
    monkeypatch.setattr(module, "is_available", lambda: False)
    assert run(x, weight) is None
