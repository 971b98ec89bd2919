import pytest
import torch
from torch.nn.functional import gelu, linear

from torch_geometric_flare.functional import gelu as module
from torch_geometric_flare.functional.gelu import linear_gelu


@pytest.mark.parametrize("biased", [True, False])
def test_equals_the_definition(monkeypatch, biased):
    monkeypatch.setattr(module, "_LEAST_ELEMENTS", 1)
    x, weight = 3 * torch.randn(50, 8), torch.randn(5, 8)
    bias = torch.randn(5) if biased else None
    assert linear_gelu(x, weight, bias) is None  # it keeps nothing for a backward
    with torch.no_grad():
        y = linear_gelu(x, weight, bias)
        if y is None:
            pytest.skip("this torch has no oneDNN")
        expected = gelu(linear(x, weight, bias), approximate="tanh")
        torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
        assert linear_gelu(x.double(), weight.double(), None) is None
        assert linear_gelu(x[:, None], weight, None) is None


def test_a_large_network_gives_the_same_with_and_without_gradients():
    from torch_geometric_flare import FLARE

    model = FLARE(3, 64, 2, num_layers=2)
    x = torch.randn(2000, 3)
    with torch.no_grad():
        y = model(x)
    torch.testing.assert_close(y, model(x), atol=1e-5, rtol=1e-4)
