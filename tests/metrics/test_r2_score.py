import pytest
import torch

from torch_geometric_flare.metrics import r2_score

pytestmark = pytest.mark.segment


def naive(pred, target):
    mean = target.mean(0, keepdim=True)
    return float(1 - ((pred - target) ** 2).sum() / ((target - mean) ** 2).sum())


def test_literal_values():
    target = torch.tensor([1.0, 2.0, 3.0])
    assert r2_score(target, target).tolist() == [1.0]
    assert r2_score(torch.full((3,), 2.0), target).tolist() == [0.0]
    assert r2_score(torch.tensor([3.0, 2.0, 1.0]), target).tolist() == [-3.0]


def test_of_unequal_graphs():
    sizes = [63, 2, 500]
    batch = torch.repeat_interleave(torch.tensor(sizes))
    pred, target = torch.randn(2, sum(sizes), 3, dtype=torch.float64)
    target = target + torch.tensor([0.0, 5.0, -100.0])
    expected = [
        naive(p, t) for p, t in zip(pred.split(sizes), target.split(sizes), strict=True)
    ]
    found = r2_score(pred, target, batch, 3)
    assert found.tolist() == pytest.approx(expected, rel=1e-10)
    assert r2_score(pred[:63], target[:63]).tolist() == pytest.approx(expected[:1])
    assert r2_score(pred.float(), target.float(), batch).dtype == torch.float32


def test_a_constant_added_to_both_changes_nothing():
    pred, target = torch.randn(2, 50, dtype=torch.float64)
    shifted = r2_score(pred + 1e6, target + 1e6)
    torch.testing.assert_close(shifted, r2_score(pred, target), rtol=1e-8, atol=0)


def test_gradients():
    pred, target = torch.randn(2, 7, 2, dtype=torch.double)
    batch = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    inputs = (pred.requires_grad_(), target.requires_grad_(), batch)
    assert torch.autograd.gradcheck(r2_score, inputs)


def test_a_constant_target_is_refused_whatever_its_mean_rounds_to():
    # The mean of 1000 times 0.1 is not 0.1.
    target = torch.cat([torch.rand(5), torch.full((1000,), 0.1)]).double()
    target[5:] = 0.1
    batch = torch.tensor([0] * 5 + [2] * 1000)
    with pytest.raises(ValueError, match=r"constant over the graphs \[1, 2, 3\]"):
        r2_score(torch.zeros_like(target), target, batch, 4)
    with pytest.raises(ValueError, match=r"graphs \[0\]"):
        r2_score(torch.zeros(0, 1), torch.zeros(0, 1))
