import pytest
import torch

from torch_geometric_flare.nn import Reformer


def test_points_far_apart_in_order_meet():
    # The buckets, not the order, say who attends to whom.
    torch.manual_seed(0)
    model = Reformer(
        3, 8, 1, num_buckets=4, attention_chunk=8, num_layers=1, heads=1
    ).double()
    x = torch.randn(64, 3, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(model(x)[0].sum(), x)
    reached = grad.abs().sum(1).nonzero().flatten()
    # Two chunks in each of four rounds are what point 0 can see.
    assert 1 < reached.numel() <= 4 * 16 and reached.max() > 16


def test_errors():
    with pytest.raises(ValueError, match="^chunk_size is 10, but Reformer needs all"):
        Reformer(3, 8, 1, chunk_size=10)
    with pytest.raises(ValueError, match="num_buckets is 3"):
        Reformer(3, 8, 1, num_buckets=3)
    with pytest.raises(ValueError, match="attention_chunk is 0"):
        Reformer(3, 8, 1, attention_chunk=0)


def test_repr():
    model = Reformer(3, 8, 2, num_layers=2, heads=2)
    assert str(model) == (
        "Reformer(3, 8, 2, num_layers=2, heads=2, num_buckets=32, attention_chunk=64, "
        "num_rounds=4)"
    )
