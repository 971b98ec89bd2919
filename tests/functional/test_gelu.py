import pytest
import torch
from torch.nn.functional import gelu, linear

from torch_geometric_flare.functional import gelu as module
from torch_geometric_flare.functional.gelu import linear_gelu, residual_gelu
from torch_geometric_flare.testing import assert_same_function


@pytest.fixture
def blocks(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 100)


@pytest.mark.parametrize("shape", [(9, 7), (100, 7), (101, 10)])
def test_equals_the_definition(shape, blocks):
    h, x = 3 * torch.randn(2, *shape, dtype=torch.float64)
    assert_same_function(
        residual_gelu,
        lambda h, x: x + gelu(h, approximate="tanh"),
        (h, x),
        second_order=True,
    )
    assert_same_function(
        residual_gelu,
        lambda h: gelu(h, approximate="tanh"),
        (h,),
        second_order=True,
    )


def test_large_values(blocks):
    h = torch.tensor([-1e30, -100.0, 0.0, 100.0, 1e10]).repeat(40)
    torch.testing.assert_close(residual_gelu(h), gelu(h, approximate="tanh"))


def test_gradient_of_one_input_alone(blocks):
    h, x = torch.randn(2, 200)
    residual_gelu(h, x.requires_grad_()).sum().backward()
    assert torch.equal(x.grad, torch.ones(200))


def test_other_layouts_and_dtypes(blocks):
    h = torch.randn(30, 20).T
    torch.testing.assert_close(residual_gelu(h, h), h + gelu(h, approximate="tanh"))
    half = h.bfloat16()
    expected = half + gelu(half, approximate="tanh")
    assert torch.equal(residual_gelu(half, half), expected)


def test_with_the_linear_map_before_it(blocks):
    x, weight, bias = torch.randn(50, 8), torch.randn(5, 8), torch.randn(5)
    assert linear_gelu(x, weight, bias) is None  # it keeps nothing for a backward
    with torch.no_grad():
        for b in (bias, None):
            y = linear_gelu(x, weight, b)
            if y is None:
                pytest.skip("this torch has no oneDNN")
            expected = gelu(linear(x, weight, b), approximate="tanh")
            torch.testing.assert_close(y, expected)
        assert linear_gelu(x.double(), weight.double(), None) is None
