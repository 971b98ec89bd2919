import pytest
import torch

from torch_geometric_flare.nn import SoftmaxAttention
from torch_geometric_flare.testing import (
    assert_batch_invariant,
    assert_permutation_equivariant,
)


def attention_of(*args, **kwargs):
    attention = SoftmaxAttention(*args, **kwargs).double()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_(std=0.5)
    return attention


def test_formula_and_laws():
    attention = attention_of(8, heads=2)
    x = torch.randn(30, 8, dtype=torch.float64)
    reference = torch.nn.MultiheadAttention(8, 2, batch_first=True).double()
    names = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    reference.load_state_dict(dict(zip(names, attention.parameters(), strict=True)))
    torch.testing.assert_close(attention(x), reference(x, x, x)[0])
    assert_batch_invariant(attention, 8, (1, 2, 63, 0, 500), atol=1e-9)
    assert_permutation_equivariant(attention, x, torch.arange(30) // 20)


def test_errors():
    attention = attention_of(8, heads=2)
    with pytest.raises(ValueError, match="channels is 8, which .*heads=3"):
        SoftmaxAttention(8, heads=3)
    with pytest.raises(ValueError, match=r"expected \[N, 8\]"):
        attention(torch.randn(5, 4).double())


def test_repr():
    assert str(SoftmaxAttention(8, heads=2)) == "SoftmaxAttention(8, heads=2)"
