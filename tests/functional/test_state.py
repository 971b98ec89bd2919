import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_geometric_flare.functional import SoftmaxState, flare_encode
from torch_geometric_flare.testing import assert_merge_associative

SHAPE = (2, 3, 4, 5)


def random_state(shift=0.0):
    return SoftmaxState(
        torch.randn(SHAPE, dtype=torch.float64),
        torch.randn(SHAPE[:-1], dtype=torch.float64) + shift,
    )


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3))
def test_associative(shifts):
    assert_merge_associative(*(random_state(shift) for shift in shifts))


def test_merge_of_encodings_is_encoding_of_union():
    q = torch.randn(3, 4, 5, dtype=torch.float64)
    k, v = torch.randn(2, 2, 3, 100, 5, dtype=torch.float64)
    whole = flare_encode(q, k, v)
    for cut in (0, 1, 37, 100):
        a = flare_encode(q, k[:, :, :cut], v[:, :, :cut])
        b = flare_encode(q, k[:, :, cut:], v[:, :, cut:])
        for state in (a.merge(b), b.merge(a)):
            torch.testing.assert_close(tuple(state), tuple(whole))


def test_empty_is_neutral_without_nan_in_gradients():
    state = random_state()
    state.value.requires_grad_()
    state.lse.requires_grad_()
    empty = SoftmaxState.empty(*SHAPE, like=state.value)
    empty.value.requires_grad_()
    empty.lse.requires_grad_()
    for merged in (empty.merge(empty), state.merge(empty).merge(empty)):
        leaves = [*state, *empty]
        total = merged.value.sum() + merged.lse.exp().sum()
        for grad in torch.autograd.grad(total, leaves, allow_unused=True):
            assert grad is None or torch.isfinite(grad).all()
    nothing = empty.merge(empty)
    assert torch.equal(nothing.value, torch.zeros_like(nothing.value))
    assert (nothing.lse == -torch.inf).all()


def test_shapes_must_agree():
    other = SoftmaxState.empty(2, 3, 4, 6, like=torch.empty(0))
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 6\), expected \(2, 3, 4, 5\)"):
        random_state().merge(other)
