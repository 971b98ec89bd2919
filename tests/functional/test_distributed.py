import math
import os
import signal
import time

import pytest
import torch
import torch.distributed as dist

from torch_geometric_flare.functional import (
    PointBatch,
    SoftmaxState,
    distributed_batch_size,
    distributed_merge,
    distributed_sum,
    flare_encode,
    ragged_flare_decode,
    ragged_flare_encode,
    reduce_gradients,
)
from torch_geometric_flare.testing import run_processes

POINTS = 63


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-10, rtol=1e-10)


def gradients_of(loss, leaves):
    """First gradients, and second ones of a function of them."""
    first = torch.autograd.grad(loss, leaves, create_graph=True)
    penalty = sum(grad.square().sum() for grad in first)
    return first, penalty


def merge_all(ends):
    """Merge the states of consecutive points; compare with all points at once."""
    group = dist.group.WORLD
    rank = group.rank()
    rows = slice(ends[rank], ends[rank + 1])
    torch.manual_seed(0)
    q, k, v = draw(2, 5, 4), draw(1, 2, POINTS, 4), draw(1, 2, POINTS, 3)
    w_value, w_lse = draw(1, 2, 5, 3), draw(1, 2, 5)

    leaves = [t.clone().requires_grad_() for t in (q, k, v)]
    state = flare_encode(*leaves)
    loss = (state.value * w_value).sum() + (state.lse * w_lse).sum()
    first, penalty = gradients_of(loss, leaves)
    second = torch.autograd.grad(penalty, leaves)

    layout = PointBatch.from_sizes([rows.stop - rows.start])
    heads_first = (t[0].transpose(0, 1)[rows] for t in (k, v))
    own = [t.clone().requires_grad_() for t in (q, *heads_first)]
    merged = distributed_merge(ragged_flare_encode(*own, layout), group)
    close(tuple(merged), tuple(t.detach() for t in state))
    # Scores that would overflow, were the largest not taken off.
    lse = merged.lse.detach()
    far = distributed_merge(SoftmaxState(merged.value.detach(), lse + 1000), group)
    close(far.lse, lse + 1000 + math.log(group.size()))
    # Each process holds a part of one loss.
    share = (rank + 1) / sum(range(group.size() + 1))
    loss = (merged.value * w_value).sum() + (merged.lse * w_lse).sum()
    found, _ = gradients_of(share * loss, own)

    def whole(grads):
        """Gradients of the points of this process, and of the latents on all."""
        of_q, *of_points = (grad.detach().clone() for grad in grads)
        dist.all_reduce(of_q)
        return of_q, *of_points

    def wanted(grads):
        return grads[0], *(grad[0].transpose(0, 1)[rows] for grad in grads[1:])

    close(whole(found), wanted([grad.detach() for grad in first]))
    # A second time: the gradient of the latents is shared, those of points are local.
    of_points = sum(grad.square().sum() for grad in found[1:])
    penalty = distributed_sum(found[0], group).square().sum()
    penalty = penalty + distributed_sum(of_points, group)
    close(whole(torch.autograd.grad(penalty, own)), wanted(second))


@pytest.mark.parametrize("ends", [(0, 20, POINTS), (0, 0, POINTS)])
def test_merging_over_processes_is_encoding_together(ends):
    run_processes(merge_all, 2, ends)


def test_merging_over_three_processes():
    run_processes(merge_all, 3, (0, 50, 50, POINTS))


def merge_nothing():
    group = dist.group.WORLD
    q = draw(2, 5, 4).requires_grad_()
    k, v = draw(0, 2, 4).requires_grad_(), draw(0, 2, 3)
    layout = PointBatch.from_sizes([0, 0])
    merged = distributed_merge(ragged_flare_encode(q, k, v, layout), group)
    assert merged.value.shape == (2, 2, 5, 3) and (merged.value == 0).all()
    assert (merged.lse == -torch.inf).all()
    y = ragged_flare_decode(q, k, merged.value, layout)
    assert y.shape == (0, 2, 3)
    (merged.value.sum() + y.sum()).backward()
    assert (q.grad == 0).all() and k.grad.shape == (0, 2, 4)


def test_without_a_point_anywhere():
    run_processes(merge_nothing, 2)


def count_bytes(points, batch_size):
    """What an encode, a merge, a decode and their backward send."""
    group, sent = dist.group.WORLD, []
    plain = dist.all_reduce

    def counted(tensor, *args, **kwargs):
        sent.append(tensor.nbytes)
        return plain(tensor, *args, **kwargs)

    dist.all_reduce = counted
    batch = torch.arange(batch_size).repeat_interleave(points // batch_size)
    k, v = torch.randn(points, 8, 8), torch.randn(points, 8, 8)
    q = torch.randn(8, 128, 8, requires_grad=True)
    number = distributed_batch_size(batch, None, group)
    layout = PointBatch.from_batch(k, batch, number)
    merged = distributed_merge(ragged_flare_encode(q, k, v, layout), group)
    forward = len(sent)
    ragged_flare_decode(q, k, merged.value, layout).sum().backward()
    return sent[:forward], sent[forward:]


def test_what_is_sent_does_not_grow_with_the_points():
    for points, batch_size in ((64, 1), (6400, 1), (6400, 4)):
        for forward, backward in run_processes(count_bytes, 2, points, batch_size):
            latents = batch_size * 8 * 128
            assert forward == [96, 4 * (latents + 1), 4 * latents * 9]
            assert backward == [4 * latents * 9]


def want_gradient_on_one():
    """Only the first process has anything that requires a gradient."""
    group = dist.group.WORLD
    here = group.rank() == 0
    torch.manual_seed(group.rank())
    value = draw(2, 5, 3).requires_grad_(here)
    state = distributed_merge(SoftmaxState(value, draw(2, 5)), group)
    assert state.value.requires_grad
    state.value.sum().backward()
    assert (value.grad is not None) == here
    # Nowhere, then nothing to wait for; nor where gradients are off.
    state = distributed_merge(SoftmaxState(value.detach(), draw(2, 5)), group)
    assert not state.value.requires_grad
    with torch.no_grad():
        state = distributed_merge(SoftmaxState(value, draw(2, 5)), group)
    assert not state.value.requires_grad
    return value.grad


def test_a_gradient_wanted_on_one_process_takes_all():
    grad, nothing = run_processes(want_gradient_on_one, 2)
    assert grad.abs().min() > 0 and nothing is None


def agree(batches, sizes):
    rank = dist.get_rank()
    batch = None if batches[rank] is None else torch.tensor(batches[rank])
    try:
        return distributed_batch_size(batch, sizes[rank], dist.group.WORLD)
    except ValueError as error:
        return str(error)


def agree_on_all(cases):
    return [agree(*case) for case in cases]


def test_number_of_graphs():
    cases = {
        (((0, 0), (0, 2)), (None, None)): 3,
        (((0,), ()), (4, None)): 4,
        ((None, None), (None, None)): 1,
        (((0, 0), (0, 2)), (5, 5)): 5,
        (((0, 0), (0, 2)), (1, None)): "1 on one process but another has 3",
        (((0, 0), (0, 2)), (5, 4)): "4 on one process but another has 5",
        ((None, (0, 1)), (None, None)): "1 on one process but another has 2",
    }
    batches = [
        (
            [
                b if b is None else torch.tensor(b, dtype=torch.long).tolist()
                for b in bs
            ],
            n,
        )
        for bs, n in cases
    ]
    for found in run_processes(agree_on_all, 2, batches):
        for actual, expected in zip(found, cases.values(), strict=True):
            if isinstance(expected, int):
                assert actual == expected
            else:
                assert expected in actual


def reduce_some():
    """Two samples, each on two processes; some gradients missing."""
    rank = dist.get_rank()
    rows = [dist.new_group(ranks) for ranks in ([0, 1], [2, 3])]
    columns = [dist.new_group(ranks) for ranks in ([0, 2], [1, 3])]
    weight, bias, unused = (torch.zeros(n, requires_grad=True) for n in (3, 2, 1))
    double = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    frozen = torch.zeros(2)
    weight.grad = torch.full((3,), 10.0**rank)
    if rank == 1:
        bias.grad = torch.ones(2)
    double.grad = torch.full((2,), 1.0 + rank, dtype=torch.float64)
    parameters = [weight, double, frozen, bias, unused]
    reduce_gradients(iter(parameters), rows[rank // 2])
    along_points = [weight.grad.clone(), bias.grad]
    reduce_gradients(parameters, columns[0 if rank in (0, 2) else 1])
    assert unused.grad is None and frozen.grad is None

    weight.grad = torch.full((3,), 10.0**rank)
    reduce_gradients([weight], rows[rank // 2], columns[rank % 2])
    try:
        reduce_gradients([weight], rows[1 - rank // 2])
    except ValueError as error:
        assert "group does not contain this process" in str(error)
    else:
        raise AssertionError("a group of others was taken")
    return [*along_points, bias.grad, double.grad, weight.grad]


def test_gradients_are_summed_over_points_and_averaged_over_samples():
    results = run_processes(reduce_some, 4)
    for rank, (weight, bias_of_row, bias, double, mean) in enumerate(results):
        assert weight.tolist() == [11.0 if rank < 2 else 1100.0] * 3
        assert bias_of_row is None if rank > 1 else bias_of_row.tolist() == [1.0] * 2
        assert bias.tolist() == [1.0] * 2
        assert double.tolist() == [10.0] * 2
        assert mean.tolist() == [1111.0 / 2] * 3


def die_or_stall(how):
    """The second process is gone before the second exchange."""
    group = dist.group.WORLD
    state = SoftmaxState(draw(2, 5, 3), draw(2, 5))
    distributed_merge(state, group)
    if group.rank() == 1:
        if how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(4)
        return None
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="lost contact with a process") as caught:
        distributed_merge(state, group)
    assert "exceeded the timeout of the group" in str(caught.value)
    return time.monotonic() - start


def test_a_killed_process_fails_the_others_at_once():
    with pytest.raises(RuntimeError) as caught:
        run_processes(die_or_stall, 2, "die", timeout=20)
    # The first process found what it expected, so it is not in the report.
    assert str(caught.value) == "process 1 ended with exit code -9"


def test_a_stalled_process_fails_the_others_in_time():
    waited, _ = run_processes(die_or_stall, 2, "stall", timeout=2)
    assert 1 < waited < 4
