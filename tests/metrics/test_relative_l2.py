import pytest
import torch

from torch_geometric_flare.metrics import relative_l2

segment = pytest.mark.segment


@segment
def test_literal_values_of_unequal_graphs():
    target = torch.tensor([[3.0], [4.0], [2.0], [0.0], [0.0]])
    pred = torch.tensor([[3.0], [3.0], [2.0], [0.0], [1.5]])
    batch = torch.tensor([0, 0, 1, 1, 1])
    assert relative_l2(pred, target, batch).tolist() == pytest.approx([0.2, 0.75])
    # All five points as one graph: sqrt(1 + 2.25) over sqrt(9 + 16 + 4).
    assert relative_l2(pred, target).tolist() == pytest.approx([(3.25 / 29) ** 0.5])


@segment
def test_is_the_ratio_of_norms_over_points_and_channels():
    generator = torch.Generator().manual_seed(0)
    sizes = [63, 1, 500]
    pred = torch.randn(sum(sizes), 3, generator=generator)
    target = torch.randn(sum(sizes), 3, generator=generator)
    batch = torch.repeat_interleave(torch.tensor(sizes))
    expected = [
        float(torch.linalg.norm(p - t) / torch.linalg.norm(t))
        for p, t in zip(pred.split(sizes), target.split(sizes), strict=True)
    ]
    assert relative_l2(pred, target, batch, 3).tolist() == pytest.approx(expected)


def test_scale_drops_out_even_where_squares_leave_single_precision():
    target = torch.tensor([3.0, 4.0])
    pred = torch.tensor([3.0, 3.0])
    for scale in (1e-30, 1e30):
        error = relative_l2(pred * scale, target * scale)
        assert error.item() == pytest.approx(0.2, rel=1e-5)


def test_dtype():
    ones = torch.ones(4, 1)
    assert relative_l2(ones, ones).dtype == torch.float32
    assert relative_l2(ones.double(), ones).dtype == torch.float64
    assert relative_l2(ones.bfloat16(), ones.bfloat16()).dtype == torch.float32


@segment
def test_gradients():
    generator = torch.Generator().manual_seed(0)
    pred = torch.randn(7, 2, dtype=torch.double, generator=generator)
    target = torch.randn(7, 2, dtype=torch.double, generator=generator)
    batch = torch.tensor([0, 0, 0, 1, 2, 2, 2])
    inputs = (pred.requires_grad_(), target.requires_grad_(), batch)
    assert torch.autograd.gradcheck(relative_l2, inputs)
    assert torch.autograd.gradgradcheck(relative_l2, inputs)


@segment
def test_an_exact_prediction_has_error_zero_and_gradient_zero():
    target = torch.tensor([[1.0], [2.0], [3.0]])
    pred = torch.tensor([[1.0], [2.0], [4.0]], requires_grad=True)
    error = relative_l2(pred, target, torch.tensor([0, 0, 1]))
    error.sum().backward()
    assert error.tolist() == pytest.approx([0.0, 1 / 3])
    assert pred.grad.flatten().tolist() == pytest.approx([0.0, 0.0, 1 / 3])


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"\(3,\) and target \(3, 1\)"):
        relative_l2(torch.ones(3), torch.ones(3, 1))
    with pytest.raises(ValueError, match="must agree"):
        relative_l2(torch.tensor(1.0), torch.tensor(1.0))


@segment
def test_a_graph_without_a_relative_error_is_refused():
    target = torch.tensor([1.0, 0.0, 0.0, 2.0])
    pred = torch.ones(4)
    with pytest.raises(ValueError, match=r"graphs \[1\]"):
        relative_l2(pred, target, torch.tensor([0, 1, 1, 2]))
    with pytest.raises(ValueError, match=r"graphs \[1, 3\]"):
        relative_l2(torch.ones(2), torch.ones(2), torch.tensor([0, 2]), batch_size=4)
    with pytest.raises(ValueError, match=r"graphs \[0\]"):
        relative_l2(torch.ones(0, 1), torch.ones(0, 1))
