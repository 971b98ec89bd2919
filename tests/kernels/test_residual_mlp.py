import pytest
import torch
from torch.nn.functional import gelu, linear

from torch_geometric_flare.kernels import residual_mlp as module
from torch_geometric_flare.kernels.llvm import is_available
from torch_geometric_flare.kernels.residual_mlp import (
    backward,
    forward,
    packed_once,
    supports,
)
from torch_geometric_flare.kernels.residual_mlp_code import Layer

pytestmark = pytest.mark.skipif(
    not is_available(), reason="there is no LLVM for this processor"
)

# Unequal widths, each activation and sum, and columns that fill no register block.
LAYERS = (
    Layer(16, 48, True, False),
    Layer(48, 48, True, True),
    Layer(48, 80, False, False),
    Layer(80, 80, False, True),
)

# An input and an output that are padded to whole vectors.
NARROW = (Layer(3, 16, True, False), Layer(16, 17, False, False))


def reference(x, layers, parameters):
    for layer, (weight, bias) in zip(layers, parameters, strict=True):
        y = linear(x, weight, bias)
        y = gelu(y, approximate="tanh") if layer.gelu else y
        x = x + y if layer.residual else y
    return x


def draw(layers, dtype):
    return [
        (
            (torch.randn(layer.out_channels, layer.in_channels) / 7).to(dtype),
            torch.randn(layer.out_channels).to(dtype),
        )
        for layer in layers
    ]


# Part of a block, several blocks, several tasks, and rows left over in each.
@pytest.mark.parametrize("num_rows", [1, 7, 48, 101, 1100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layers", [LAYERS, LAYERS[1:2], NARROW])
def test_equals_the_reference(num_rows, dtype, layers):
    parameters = draw(layers, dtype)
    x = torch.randn(num_rows, layers[0].in_channels, dtype=dtype)
    g = torch.randn(num_rows, layers[-1].out_channels, dtype=dtype)
    doubles = [(w.double(), b.double()) for w, b in parameters]
    inputs = [x.double(), *(t for pair in doubles for t in pair)]
    for t in inputs:
        t.requires_grad_()
    wanted = reference(inputs[0], layers, doubles)
    gradients = torch.autograd.grad(wanted, inputs, g.double())
    grad_x, pairs = backward(x, layers, parameters, g)
    found = [forward(x, layers, parameters), grad_x, *(t for p in pairs for t in p)]
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for a, b in zip(found, (wanted, *gradients), strict=True):
        assert a.dtype == dtype and a.shape == b.shape
        assert (a - b).norm() < tolerance * b.norm()


@pytest.mark.parametrize("layers", [LAYERS, NARROW])
def test_gradients_of_the_input_alone(layers):
    parameters = draw(layers, torch.float32)
    x = torch.randn(1100, layers[0].in_channels)
    g = torch.randn(1100, layers[-1].out_channels)
    expected, _ = backward(x, layers, parameters, g)
    found, pairs = backward(x, layers, parameters, g, of_parameters=False)
    assert pairs == [] and torch.equal(found, expected)


def test_without_bias():
    (layer,) = layers = LAYERS[1:2]
    weight, x = torch.randn(48, 48), torch.randn(100, layer.in_channels)
    expected = forward(x, layers, [(weight, torch.zeros(48))])
    assert torch.equal(forward(x, layers, [(weight, None)]), expected)


def test_bits_depend_neither_on_threads_nor_on_other_rows():
    parameters = draw(LAYERS, torch.float32)
    x, g = torch.randn(10_000, 16), torch.randn(10_000, 80)
    before = torch.get_num_threads()

    def results(threads):
        torch.set_num_threads(threads)
        grad_x, pairs = backward(x, LAYERS, parameters, g)
        return forward(x, LAYERS, parameters), grad_x, *(t for p in pairs for t in p)

    try:
        for a, b in zip(results(1), results(3), strict=True):
            assert torch.equal(a, b)
    finally:
        torch.set_num_threads(before)
    part = forward(x[5:104].contiguous(), LAYERS, parameters)
    assert torch.equal(part, forward(x, LAYERS, parameters)[5:104])


def test_what_is_not_finite_or_large():
    layers = (Layer(16, 16, True, False),)
    identity = [(torch.eye(16), torch.zeros(16))]
    x = torch.tensor([[torch.nan], [torch.inf], [-1e30], [1e30]]).expand(4, 16)
    # A product with the identity adds 0 * inf, so rows have one such number each.
    x = torch.where(torch.eye(16, dtype=torch.bool)[:4], x, torch.zeros(()))
    y = forward(x, layers, identity)
    assert y[0].isnan().all() and y[1, 1] == torch.inf
    assert abs(y[2, 2]) < 1e-20 and y[3, 3] == x[3, 3]
    grad, _ = backward(x[2:].contiguous(), layers, identity, torch.ones(2, 16))
    assert abs(grad[0, 2]) < 1e-20 and grad[1, 3] == 1


def test_which_layers_are_supported():
    assert supports(torch.float32, LAYERS)
    assert supports(torch.float32, NARROW)
    assert supports(torch.float32, (Layer(128, 384, True, False),))
    assert not supports(torch.float32, (Layer(128, 400, True, False),))
    assert not supports(torch.float64, (Layer(128, 208, True, False),))
    assert not supports(torch.float16, LAYERS)
    inner = Layer(16, 15, True, False), Layer(15, 16, False, False)
    assert not supports(torch.float32, inner)
    assert not supports(torch.float32, (Layer(64, 64, True, True),) * 9)
    assert not supports(torch.float32, (Layer(32, 64, True, True),))


def test_errors():
    layers = LAYERS[1:2]
    x, weight, bias = torch.randn(100, 48), torch.randn(48, 48), torch.randn(48)
    with pytest.raises(ValueError, match="x is torch.float32 with strides"):
        forward(x.T.contiguous().T, layers, [(weight, bias)])
    with pytest.raises(ValueError, match="weight or bias is not torch.float32"):
        forward(x, layers, [(weight.double(), bias.double())])
    with pytest.raises(ValueError, match="grad is torch.float64"):
        backward(x, layers, [(weight, bias)], x.double())
    with pytest.raises(ValueError, match="weight and bias have shapes"):
        forward(x, layers, [(weight, bias[:3])])
    for rows in (x[:, :16].contiguous(), x[0]):
        with pytest.raises(ValueError, match=r"expected \[N, 48\]"):
            module.forward(rows, layers, [(weight, bias)])


@pytest.fixture
def packs(monkeypatch):
    """Count how often weights are brought into the order of the code."""
    calls = []
    pack = module._pack
    monkeypatch.setattr(module, "_pack", lambda *a: calls.append(1) or pack(*a))
    return calls


def test_weights_are_packed_once(packs):
    parameters = draw(LAYERS, torch.float32)
    x = torch.randn(3, 16)
    with packed_once():
        first = forward(x, LAYERS, parameters)
        with packed_once():
            again = forward(x, LAYERS, parameters)
    assert len(packs) == 1 and torch.equal(first, again)
    # Weights may change between loops.
    parameters[0][0].zero_()
    with packed_once():
        changed = forward(x, LAYERS, parameters)
    assert len(packs) == 2 and not torch.allclose(first, changed)
    forward(x, LAYERS, parameters)
    forward(x, LAYERS, parameters)
    assert len(packs) == 4


def test_weights_of_a_moment_are_not_mistaken_or_kept(packs):
    x = torch.randn(3, 16)
    with packed_once():
        for _ in range(200):
            parameters = draw(LAYERS, torch.float32)
            y = forward(x, LAYERS, parameters)
            torch.testing.assert_close(y, reference(x, LAYERS, parameters))
        assert len(module._PACKED.maps) <= 64
    assert module._PACKED.maps is None
