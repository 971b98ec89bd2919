import pytest
import torch
from torch.nn.functional import gelu, linear

from torch_geometric_flare.functional import mlp
from torch_geometric_flare.functional.mlp import Layer, residual_mlp, supports
from torch_geometric_flare.kernels.llvm import is_available
from torch_geometric_flare.testing import assert_same_function

kernel = pytest.mark.skipif(
    not is_available(), reason="there is no LLVM for this processor"
)


def reference(x, weights, biases, input_residual=False, output_residual=True):
    *hidden, last = zip(weights, biases, strict=True)
    residual = input_residual
    for weight, bias in hidden:
        y = gelu(linear(x, weight, bias), approximate="tanh")
        x, residual = (x + y if residual else y), True
    y = linear(x, *last)
    return x + y if output_residual else y


def fused(x, weights, biases):
    return residual_mlp(x, list(zip(weights, biases, strict=True)), False, True)


def is_supported(x, *weights, bias=None):
    layers = tuple(Layer(w.size(1), w.size(0), True, False) for w in weights)
    return supports(x, layers, [(w, bias) for w in weights])


@pytest.mark.parametrize("rows", [350, 3])  # the kernel, and the loop
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(("wide_in", "wide_out"), [(16, 16), (3, 16), (16, 5), (3, 1)])
def test_equals_the_reference(rows, biased, wide_in, wide_out):
    x = torch.randn(3, rows, wide_in, dtype=torch.float64)
    shapes = (16, wide_in), (16, 16), (wide_out, 16)
    weights = [torch.randn(s, dtype=torch.float64) / 4 for s in shapes]
    biases = [torch.randn(s[0], dtype=torch.float64) for s in shapes] if biased else []
    residual = wide_in == 16, wide_out == 16
    if is_available():
        assert is_supported(x, *weights) is (rows == 350)

    def kernel_or_loop(x, weights, biases):
        return residual_mlp(x, [*zip(weights, biases, strict=True)], *residual)

    def split(function):
        def call(x, *tensors):
            return function(x, tensors[:3], tensors[3:] or [None] * 3)

        return call

    assert_same_function(
        split(kernel_or_loop),
        split(lambda x, ws, bs: reference(x, ws, bs, *residual)),
        [x, *weights, *biases],
        second_order=True,
        atol=1e-9,
    )


def test_single_precision():
    x, *maps = (torch.randn(s) for s in ((1000, 3), (48, 3), (48, 48), (48,), (48,)))
    inputs = [t.requires_grad_() for t in (x, *maps)]
    doubles = [t.detach().double().requires_grad_() for t in inputs]
    y, wanted = (
        f(t[0], t[1:3], t[3:]) for f, t in ((fused, inputs), (reference, doubles))
    )
    g = torch.randn(1000, 48)
    found = [y, *torch.autograd.grad(y, inputs, g)]
    expected = [wanted, *torch.autograd.grad(wanted, doubles, g.double())]
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() < 1e-5 * b.norm()


def test_memory_layouts():
    x = torch.randn(16, 1100, dtype=torch.float64).T.requires_grad_()
    weight = torch.randn(16, 16, dtype=torch.float64).T
    assert_same_function(
        lambda x, w: fused(x, [w, w.T], [None] * 2),
        lambda x, w: reference(x, [w, w.T], [None] * 2),
        (x, weight),
    )
    fused(x, [weight] * 2, [None] * 2).sum().backward()  # an expanded gradient


@kernel
@pytest.mark.parametrize("wide_in", [64, 3])
def test_nothing_but_the_input_is_kept(wide_in):
    x = torch.randn(1000, wide_in)
    weights = [torch.randn(64, w, requires_grad=True) for w in (wide_in, 64, 64, 64)]
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


@kernel
@pytest.mark.parametrize("compiled", [False, True])
def test_a_frozen_mlp_computes_no_gradients_of_weights(compiled, monkeypatch):
    x = torch.randn(1100, 16, dtype=torch.float64, requires_grad=True)
    weights = list(torch.randn(2, 16, 16, dtype=torch.float64))
    asked, backward = [], mlp.kernels.backward

    def spy(x, layers, parameters, grad, of_parameters=True):
        grad_x, pairs = backward(x, layers, parameters, grad, of_parameters)
        asked.append((of_parameters, len(pairs)))
        return grad_x, pairs

    monkeypatch.setattr(mlp.kernels, "backward", spy)
    function = torch.compile(fused, backend="aot_eager") if compiled else fused
    (found,) = torch.autograd.grad(function(x, weights, [None] * 2).sin().sum(), x)
    assert asked == [(False, 0)]
    (wanted,) = torch.autograd.grad(reference(x, weights, [None] * 2).sin().sum(), x)
    torch.testing.assert_close(found, wanted)


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


@kernel
def test_what_the_kernel_supports(monkeypatch):
    x, weight = torch.randn(3000, 16), torch.randn(16, 16)
    assert is_supported(x, weight, weight)
    assert is_supported(x[:, :15], weight[:, :15], weight[:5])
    assert not is_supported(x[:100], weight, weight)  # too small to gain
    assert not is_supported(x.double(), weight, weight)
    assert not is_supported(x.half(), weight.half(), weight.half())
    assert not is_supported(x, weight, weight, bias=torch.zeros(16).double())
    assert not is_supported(x, torch.randn(16, 8), weight)
    assert not is_supported(x, weight[:15], weight[:, :15])  # no whole vectors inside
    assert not is_supported(x[:0], weight, weight)
    seen = []
    torch.func.vmap(lambda x: seen.append(is_supported(x, weight)) or x)(
        x.view(3, 1000, 16)
    )
    assert seen == [False]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = residual_mlp(x, [(weight, None)] * 2, True, True)
        few = residual_mlp(x[:100], [(weight, None)] * 2, True, True)
    assert y.dtype == torch.bfloat16
    exact = residual_mlp(x, [(weight, None)] * 2, True, True)
    assert torch.equal(y, exact.bfloat16())  # computed in float32
    assert (few - exact[:100]).norm() < 0.05 * exact[:100].norm()
    monkeypatch.setattr(mlp, "is_available", lambda: False)
    assert not is_supported(x, weight, weight)
