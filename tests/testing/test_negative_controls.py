"""Every law catches what breaks it."""

import pytest
import torch
from torch import nn

from torch_geometric_flare.functional import SoftmaxState
from torch_geometric_flare.testing import (
    assert_batch_invariant,
    assert_merge_associative,
    assert_permutation_equivariant,
    assert_same_function,
)


class Leaky(nn.Module):
    """Sees the points of all graphs."""

    def __init__(self, forward_too=True):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, dtype=torch.float64))
        self.forward_too = forward_too

    def forward(self, x, batch=None, batch_size=None):
        mean = x.mean(0)
        if not self.forward_too:
            mean = mean - mean.detach()  # zero, but not its gradient
        return self.weight * (x + mean)


@pytest.mark.parametrize("forward_too", [True, False])
def test_batch_mates_that_count(forward_too):
    with pytest.raises(AssertionError):
        assert_batch_invariant(Leaky(forward_too), 3, (5, 0, 8))


class Numbered(nn.Module):
    """Depends on where a point stands."""

    def forward(self, x, batch=None, batch_size=None):
        return x * torch.arange(len(x), dtype=x.dtype).unsqueeze(-1)


def test_an_order_that_counts():
    with pytest.raises(AssertionError):
        assert_permutation_equivariant(Numbered(), torch.randn(9, 3).double())


@pytest.mark.parametrize(
    ("other", "second_order"),
    [
        (lambda x: x.sin() + 1e-6, False),
        (lambda x: x.sin().detach() + 0 * x, False),  # another gradient
        (lambda x: x.sin() + (x - x.detach()).pow(2), True),  # a second derivative
    ],
)
def test_another_function(other, second_order):
    x = torch.randn(5, dtype=torch.float64)
    assert_same_function(torch.sin, torch.sin, [x], second_order=True)
    with pytest.raises(AssertionError):
        assert_same_function(other, torch.sin, [x], second_order=second_order)


class Averaging(SoftmaxState):
    """Merges in an order that counts."""

    def merge(self, other):
        return Averaging((self.value + other.value) / 2, self.lse)

    def empty_like(self, num_graphs, dtype):
        return Averaging(*super().empty_like(num_graphs, dtype))


def test_states_that_do_not_merge_in_any_order():
    a, b, c = (
        Averaging(torch.randn(2, 3, 4).double(), torch.randn(2, 3).double())
        for _ in range(3)
    )
    with pytest.raises(AssertionError):
        assert_merge_associative(a, b, c)
