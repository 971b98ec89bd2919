import pytest
import torch

from torch_geometric_flare.functional import SumState
from torch_geometric_flare.testing import assert_merge_associative

SHAPE = (2, 3, 4, 5)


def random_state():
    return SumState(
        torch.randn(SHAPE, dtype=torch.float64),
        torch.rand(SHAPE[:-1], dtype=torch.float64),
    )


def test_monoid():
    assert_merge_associative(random_state(), random_state(), random_state())


def test_merging_adds():
    a, b = random_state(), random_state()
    merged = a.merge(b)
    torch.testing.assert_close(merged.total, a.total + b.total)
    torch.testing.assert_close(merged.weight, a.weight + b.weight)
    empty = SumState.empty(*SHAPE, like=a.total)
    assert all(torch.equal(x, y) for x, y in zip(a.merge(empty), a, strict=True))


def test_shapes_must_agree():
    other = SumState.empty(2, 3, 4, 6, like=torch.empty(0))
    with pytest.raises(ValueError, match=r"other.total has shape \(2, 3, 4, 6\)"):
        random_state().merge(other)
