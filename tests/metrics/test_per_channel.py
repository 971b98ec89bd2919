import pytest
import torch

from torch_geometric_flare.metrics import relative_l2, relative_l2_per_channel

pytestmark = pytest.mark.segment


def test_literal_values():
    target = torch.tensor([[3.0, 0.1], [4.0, 0.0], [2.0, 5.0]])
    pred = torch.tensor([[3.0, 0.2], [3.0, 0.0], [2.0, 4.0]])
    batch = torch.tensor([0, 0, 1])
    errors = relative_l2_per_channel(pred, target, batch)
    torch.testing.assert_close(errors, torch.tensor([[0.2, 1.0], [0.0, 0.2]]))
    assert relative_l2_per_channel(pred[:, 0], target[:, 0]).shape == (1, 1)


def test_is_relative_l2_of_each_channel():
    sizes = [63, 1, 500]
    batch = torch.repeat_interleave(torch.tensor(sizes))
    pred, target = torch.randn(2, sum(sizes), 3, dtype=torch.float64)
    errors = relative_l2_per_channel(pred, target, batch, 3)
    for channel in range(3):
        expected = relative_l2(pred[:, channel], target[:, channel], batch)
        torch.testing.assert_close(errors[:, channel], expected, rtol=1e-12, atol=0)


def test_gradients():
    pred, target = torch.randn(2, 7, 2, dtype=torch.double)
    batch = torch.tensor([0, 0, 0, 1, 2, 2, 2])
    inputs = (pred.requires_grad_(), target.requires_grad_(), batch)
    assert torch.autograd.gradcheck(relative_l2_per_channel, inputs)
    assert torch.autograd.gradgradcheck(relative_l2_per_channel, inputs)


def test_a_channel_of_zeros_is_refused():
    target = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match=r"graphs \[1\]"):
        relative_l2_per_channel(torch.ones(2, 2), target, torch.tensor([0, 1]))
