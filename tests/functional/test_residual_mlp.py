import pytest
import torch
from torch.nn.functional import gelu, linear

from torch_geometric_flare.functional.residual_mlp import residual_mlp
from torch_geometric_flare.kernels.llvm import is_available
from torch_geometric_flare.testing import assert_same_function

pytestmark = pytest.mark.skipif(
    not is_available(), reason="there is no LLVM for this processor"
)


def definition(x, weights, biases):
    *hidden, last = zip(weights, biases, strict=True)
    for i, (weight, bias) in enumerate(hidden):
        y = gelu(linear(x, weight, bias), approximate="tanh")
        x = y if i == 0 else x + y
    return x + linear(x, *last)


def fused(x, weights, biases):
    *hidden, last = zip(weights, biases, strict=True)
    return residual_mlp(x, hidden, False, last, True)


@pytest.mark.parametrize("biased", [True, False])
def test_equals_the_definition(biased):
    x = torch.randn(3, 350, 16, dtype=torch.float64)
    weights = list(torch.randn(3, 16, 16, dtype=torch.float64) / 4)
    biases = list(torch.randn(3, 16, dtype=torch.float64)) if biased else []

    def split(function):
        def call(x, *tensors):
            return function(x, tensors[:3], tensors[3:] or [None] * 3)

        return call

    assert fused(x, weights, biases or [None] * 3) is not None
    assert_same_function(
        split(fused), split(definition), [x, *weights, *biases], second_order=True
    )


def test_memory_layouts():
    x = torch.randn(16, 1100, dtype=torch.float64).T.requires_grad_()
    weight = torch.randn(16, 16, dtype=torch.float64).T
    assert_same_function(
        lambda x, w: fused(x, [w, w.T], [None] * 2),
        lambda x, w: definition(x, [w, w.T], [None] * 2),
        (x, weight),
    )
    fused(x, [weight] * 2, [None] * 2).sum().backward()  # an expanded gradient


def test_nothing_but_the_input_is_kept():
    x = torch.randn(1000, 64)
    weights = [torch.randn(64, 64, requires_grad=True) for _ in range(4)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.data_ptr()) or t, lambda t: t
    ):
        fused(x, weights, [None] * 4).sum().backward()
    assert set(kept) == {t.data_ptr() for t in (x, *weights)}


def test_only_the_wanted_gradients():
    x, weight = torch.randn(1100, 16), torch.randn(16, 16, requires_grad=True)
    bias = torch.randn(16)
    fused(x, [weight, weight.detach()], [bias, bias]).sum().backward()
    assert x.grad is None and bias.grad is None and weight.grad is not None


def test_batched_gradients():
    x = torch.randn(1100, 16, dtype=torch.float64, requires_grad=True)
    weights = list(torch.randn(2, 16, 16, dtype=torch.float64))
    grads = torch.randn(3, 1100, 16, dtype=torch.float64)
    (found,) = torch.autograd.grad(
        fused(x, weights, [None] * 2), x, grads, is_grads_batched=True
    )
    for g, expected in zip(grads, found, strict=True):
        (one,) = torch.autograd.grad(fused(x, weights, [None] * 2), x, g)
        torch.testing.assert_close(one, expected)


def test_otherwise_single_layers():
    x, weight = torch.randn(3000, 16), torch.randn(16, 16)

    def run(x, weight):
        return residual_mlp(x, [(weight, None)], True)

    assert run(x, weight) is not None
    assert run(x[:100], weight) is None  # too small to gain
    assert run(x.double(), weight) is None
    assert run(x, torch.randn(16, 8)) is None
    assert run(x[:, :15], weight[:, :15]) is None  # no whole vectors
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert run(x, weight).dtype == torch.bfloat16
    seen = []
    torch.func.vmap(lambda x: seen.append(run(x, weight)) or x)(x.view(3, 1000, 16))
    assert seen == [None]
