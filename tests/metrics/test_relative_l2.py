import pytest
import torch
import torch.distributed as dist

from torch_geometric_flare.fields import Field
from torch_geometric_flare.functional import distributed_sum, reduce_gradients
from torch_geometric_flare.metrics import (
    relative_l2,
    relative_l2_per_field,
    zero_graphs,
)
from torch_geometric_flare.testing import run_processes

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
    with pytest.raises(ValueError, match=r"shape \(\)"):
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


def fit_in_parts(ends, weight, x, target, batch, batch_size):
    """The error of a linear map, on rows that this process holds, and gradients."""
    group = dist.group.WORLD
    rows = slice(ends[group.rank()], ends[group.rank() + 1])
    batch = None if batch is None else batch[rows]
    weight.requires_grad_()
    pred = x[rows] @ weight
    pred.retain_grad()
    error = relative_l2(pred, target[rows], batch, batch_size, group)
    error.square().sum().backward()
    reduce_gradients([weight], group)
    return error.detach(), pred.grad, weight.grad


@segment
@pytest.mark.parametrize(
    ("ends", "single", "batch_size"),
    [((0, 3, 7), False, 3), ((0, 0, 7), False, None), ((0, 5, 7), True, None)],
)
def test_over_processes_it_is_the_error_of_the_whole(ends, single, batch_size):
    x, weight, target = (
        torch.randn(*shape, dtype=torch.double) for shape in ((7, 4), (4, 2), (7, 2))
    )
    batch = None if single else torch.tensor([0, 0, 0, 1, 2, 2, 2])
    results = run_processes(fit_in_parts, 2, ends, weight, x, target, batch, batch_size)
    weight.requires_grad_()
    pred = x @ weight
    pred.retain_grad()
    error = relative_l2(pred, target, batch)
    error.square().sum().backward()
    for rank, (found, of_pred, of_weight) in enumerate(results):
        close(found, error.detach())
        close(of_pred, pred.grad[ends[rank] : ends[rank + 1]])
        close(of_weight, weight.grad)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-10, rtol=1e-10)


def differentiate_twice(x, target):
    """A penalty on the gradient of the error, and its own gradient."""
    group = dist.group.WORLD
    rows = slice(0, 2) if group.rank() == 0 else slice(2, None)
    x = x[rows].requires_grad_()
    error = relative_l2(x, target[rows], group=group)
    (grad,) = torch.autograd.grad(error.sum(), x, create_graph=True)
    penalty = distributed_sum(grad.pow(4).sum(), group)
    return penalty.detach(), torch.autograd.grad(penalty, x)[0]


def test_over_processes_it_can_be_differentiated_twice():
    x, target = torch.randn(2, 7, 2, dtype=torch.double)
    parts = run_processes(differentiate_twice, 2, x, target)
    x.requires_grad_()
    (grad,) = torch.autograd.grad(relative_l2(x, target).sum(), x, create_graph=True)
    penalty = grad.pow(4).sum()
    for found, _ in parts:
        close(found, penalty.detach())
    close(torch.cat([part for _, part in parts]), torch.autograd.grad(penalty, x)[0])


def refuse(cases):
    messages = []
    for batch, batch_size in cases:
        try:
            ones = torch.ones(len(batch))
            relative_l2(ones, ones, torch.tensor(batch), batch_size, dist.group.WORLD)
        except ValueError as error:
            messages.append(str(error))
    return messages


def test_all_processes_refuse_what_one_must_refuse():
    # The first process has graphs 0 and 2; the second one, the same.
    cases = [([0, 2], None), ([0, 2], 2)]
    for messages in run_processes(refuse, 2, cases):
        assert "graphs [1]" in messages[0]
        assert "batch_size is 2 on one process but another has 3" in messages[1]


FIELDS = (Field("pressure"), Field("shear", 2))


@segment
def test_one_error_per_field_and_graph():
    target = torch.tensor([[3.0, 0, 1e-3], [4.0, 0, 0], [2.0, 4e-3, 0], [0, 0, 3e-3]])
    pred = torch.tensor([[3.0, 0, 2e-3], [3.0, 0, 0], [2.0, 4e-3, 0], [1.0, 0, 0]])
    batch = torch.tensor([0, 0, 1, 1])
    errors = relative_l2_per_field(pred, target, FIELDS, batch)
    assert list(errors) == ["pressure", "shear"]
    assert errors["pressure"].tolist() == pytest.approx([0.2, 0.5])
    assert errors["shear"].tolist() == pytest.approx([1.0, 0.6])
    # A single norm over all channels sees nothing of the second.
    assert relative_l2(pred, target, batch).tolist() == pytest.approx([0.2, 0.5], 1e-3)


def test_a_single_field_is_relative_l2():
    pred, target = torch.randn(9, 1), torch.randn(9, 1)
    for squeeze in (False, True):
        if squeeze:
            pred, target = pred.squeeze(1), target.squeeze(1)
        errors = relative_l2_per_field(pred, target, FIELDS[:1], batch_size=1)
        assert torch.equal(errors["pressure"], relative_l2(pred, target))


def test_the_gradient_of_a_field_is_its_own():
    pred = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    target = torch.randn(9, 3, dtype=torch.float64)
    relative_l2_per_field(pred, target, FIELDS)["shear"].sum().backward()
    assert pred.grad[:, 0].abs().max() == 0
    assert pred.grad[:, 1:].abs().min() > 0


def test_fields_that_do_not_fit():
    pred, target = torch.ones(4, 3), torch.ones(4, 3)
    message = r"has 3 channels, but the fields \(shear of 2\) have 2"
    with pytest.raises(ValueError, match=message):
        relative_l2_per_field(pred, target, FIELDS[1:])
    with pytest.raises(ValueError, match="fields is empty"):
        relative_l2_per_field(pred, target, ())
    with pytest.raises(ValueError, match=r"both must be \[N, 3\]"):
        relative_l2_per_field(pred, target[:3], FIELDS)
    target[:, 1:] = 0
    with pytest.raises(ValueError, match="field 'shear': target is zero at every"):
        relative_l2_per_field(pred, target, FIELDS)


@segment
def test_a_zero_target_has_an_absolute_error_in_units_of_the_scale():
    target = torch.tensor([[3.0], [4.0], [0.0], [0.0]])
    pred = torch.tensor([[3.0], [3.0], [0.6], [0.8]])
    batch = torch.tensor([0, 0, 1, 1])
    # sqrt(0.36 + 0.64) over sqrt(2) * 0.5; the other graph keeps 1 / 5.
    expected = [0.2, 1 / (2**0.5 * 0.5)]
    error = relative_l2(pred, target, batch, zero_scale=[0.5])
    assert error.tolist() == pytest.approx(expected)
    assert zero_graphs(target, batch).tolist() == [False, True]
    # Two channels of different scale: sqrt(3 * (1 + 4)) over sqrt(3 * (9 + 16)).
    pair = torch.tensor([[1.0, 2.0]]).repeat(3, 1)
    error = relative_l2(pair, torch.zeros(3, 2), zero_scale=torch.tensor([3.0, 4.0]))
    assert error.tolist() == pytest.approx([(1 / 5) ** 0.5])


def test_a_scale_must_be_one_positive_number_a_channel():
    zeros = torch.zeros(3, 2)
    for scale in ([1.0], [1.0, 0.0], [1.0, -1.0], [1.0, 1.0, 1.0]):
        with pytest.raises(ValueError, match="zero_scale"):
            relative_l2(zeros + 1, zeros, zero_scale=scale)


def test_graphs_without_points_are_refused_with_a_scale_too():
    with pytest.raises(ValueError, match=r"\[1\]"):
        relative_l2(
            torch.ones(2, 1),
            torch.ones(2, 1),
            torch.tensor([0, 0]),
            batch_size=2,
            zero_scale=[1.0],
        )
