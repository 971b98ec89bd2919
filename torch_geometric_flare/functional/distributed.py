r"""One set of points over many processes: sums and states of the whole.

Each process of a group holds some of the points, perhaps none. What it computes from
its own points is *local*; what all processes hold alike is *shared*. The gradient of
a shared quantity counts once, not once a process. So for a loss that is shared, or
local losses that are meant to be summed, backward on every process leaves gradients
whose sum over the group is that of the whole.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from torch_geometric_flare.functional.autograd import any_requires_grad
from torch_geometric_flare.functional.state import State

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

# Stands for the number of graphs on a process that does not give it.
_UNNAMED = 1 << 62

# Checksums that processes compare, besides the number of graphs.
_CHECKSUMS = 5

S = TypeVar("S", bound=State)


def _all_reduce(x: Tensor, op: Any, group: "ProcessGroup") -> None:
    if dist.get_rank(group) < 0:
        raise ValueError("group does not hold this process: pass one that it is in")
    try:
        dist.all_reduce(x, op, group)
    except RuntimeError as error:
        raise RuntimeError(
            f"lost contact with a process of this group of {group.size()}: it has "
            "ended, took longer than the time-out of the group, or sent a tensor of "
            "another shape. Look for the first error in the logs of the others, and "
            "start all of them again"
        ) from error


class _Sum(torch.autograd.Function):
    """Local to shared: a sum. Each term gets the gradient of the sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: "ProcessGroup") -> Tensor:
        ctx.group = group
        total = x.clone(memory_format=torch.contiguous_format)
        _all_reduce(total, dist.ReduceOp.SUM, group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Copy.apply(grads[0], ctx.group), None  # type: ignore[no-untyped-call]


class _Copy(torch.autograd.Function):
    """Shared to local: the same value. Gradients of all processes add up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: "ProcessGroup") -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(grads[0], ctx.group), None  # type: ignore[no-untyped-call]


def distributed_sum(x: Tensor, group: "ProcessGroup | None") -> Tensor:
    r"""Sum a tensor over a group, for a loss of the whole.

    The sum is the same on every process, and counts as one: where each process calls
    backward on the same function $f(\sum_r x_r)$, each gets $f'$ as the gradient of
    its own term, not $f'$ times the number of processes. May be differentiated any
    number of times. A sum that enters what each process computes from its own points,
    such as a mean over points, must pass `distributed_copy` first.

    Args:
        x: A tensor of the same shape and dtype on every process.
        group: The processes that hold the points; `None` for this one alone.

    Returns:
        The sum, bit for bit the same on every process.

    Raises:
        RuntimeError: If a process of the group has ended, or is late by more than the
            time-out of the group.
    """
    if group is None:
        return x
    total: Tensor = _Sum.apply(x, group)  # type: ignore[no-untyped-call]
    return total


def distributed_copy(x: Tensor, group: "ProcessGroup | None") -> Tensor:
    r"""Prepare a shared tensor for use with each process's own points.

    The value does not change. In backward, the gradients of all processes add up, as
    they do for parameters by `reduce_gradients`. So a mean over all points is
    `distributed_copy(distributed_sum(x.sum(0), group), group) / num_points`. May be
    differentiated any number of times.

    Args:
        x: A tensor that is the same on every process.
        group: The processes that hold the points; `None` for this one alone.

    Returns:
        `x`, whose gradient is that of its uses on all processes. All of them must take
        part in backward.
    """
    if group is None:
        return x
    copy: Tensor = _Copy.apply(x, group)  # type: ignore[no-untyped-call]
    return copy


def distributed_merge(state: S, group: "ProcessGroup | None") -> S:
    r"""Merge the states of all processes of a group: the state of all of their points.

    It is `merge` over all processes at once. For a `SoftmaxState`, with $t$ the largest
    $\ell_r$,

    $$Z = \frac{\sum_r e^{\ell_r - t} Z_r}{\sum_r e^{\ell_r - t}}, \qquad
      \ell = t + \log \sum_r e^{\ell_r - t}$$

    in one exchange of maxima and one of sums, and one of sums in backward. What is sent
    does not depend on the number of points. Empty states, even of all processes, cause
    no NaN. May be differentiated any number of times: the gradient that a state gets is
    that of the outputs of all processes.

    Every process must take part, also in backward. Where a gradient is wanted on one,
    the merged state requires one on all of them.

    Args:
        state: The state of this process's points; of the same class, shape and dtype on
            every process.
        group: The processes that hold the points; `None` for this one alone.

    Returns:
        The merged state, bit for bit the same on every process.

    Raises:
        RuntimeError: If a process of the group has ended, or is late by more than the
            time-out of the group.
    """
    if group is None:
        return state
    tracked = any_requires_grad(*state)
    extrema = state.extrema()
    maxima = torch.cat([extrema.flatten(), extrema.new_full((1,), float(tracked))])
    _all_reduce(maxima, dist.ReduceOp.MAX, group)
    top = maxima[:-1].view_as(extrema)
    local = state.sums(top)
    if torch.is_grad_enabled() and not tracked and maxima[-1] > 0:
        local = local + local.new_zeros((), requires_grad=True)
    sums = distributed_copy(distributed_sum(local, group), group)
    return state.from_sums(sums, top)


def distributed_batch_size(
    batch: Tensor | None,
    batch_size: int | None,
    group: "ProcessGroup",
    device: torch.device | str = "cpu",
    checksums: Mapping[str, int] | None = None,
) -> int:
    """Agree on the number of graphs in a batch whose points are spread over a group.

    Args:
        batch: Graph of each of this process's points, sorted; `None` for one graph.
        batch_size: Number of graphs, the same on every process that names it; `None`
            for the largest in `batch`, over all processes, plus one.
        group: The processes that hold the points.
        device: Where the exchange of 96 bytes takes place.
        checksums: Up to five numbers that must be the same on every process, by what
            they stand for, such as `"weights"`.

    Returns:
        The number, the same on every process.

    Raises:
        ValueError: If the processes disagree, on all of them.
        RuntimeError: If a process of the group is lost.
    """
    named = 1 if batch is None and batch_size is None else batch_size
    counted = 0 if batch is None or not len(batch) else int(batch[-1]) + 1
    sums = dict(checksums or {})
    # A fixed size: processes that differ must still be able to exchange it.
    values = [*sums.values(), *[0] * (_CHECKSUMS - len(sums))]
    numbers = torch.tensor(
        [
            max(counted, named or 0),
            -(_UNNAMED if named is None else named),
            *values,
            *[-value for value in values],
        ],
        device=device,
    )
    _all_reduce(numbers, dist.ReduceOp.MAX, group)
    largest, smallest, *rest = numbers.tolist()
    highest, lowest = rest[:_CHECKSUMS], [-value for value in rest[_CHECKSUMS:]]
    different = [
        name
        for name, low, high in zip(sums, lowest, highest, strict=False)
        if low != high
    ]
    if different:
        raise ValueError(
            f"the processes of this group differ in {' and '.join(different)}: build "
            "the module with the same arguments everywhere, broadcast its weights from "
            "one process, and pass points of one dtype"
        )
    if -smallest < largest:
        raise ValueError(
            f"batch_size is {-smallest} on one process but another has {largest} "
            "graphs: pass the number of graphs of the whole batch on all of them"
        )
    return int(largest)


def reduce_gradients(
    parameters: Iterable[Tensor],
    points: "ProcessGroup",
    data: "ProcessGroup | None" = None,
) -> None:
    """Sum gradients over the processes that share points, average over samples.

    Call it after backward on every process. Each dtype and group takes one exchange. A
    parameter without a gradient on some processes counts as zero there; without one on
    all processes it stays without.

    Args:
        parameters: The parameters, in the same order on every process. Those that
            require no gradient are skipped.
        points: The processes that hold the points of the same samples.
        data: The processes that stand at the same place in groups of different
            samples, if there are several such groups.

    Raises:
        RuntimeError: If a process is lost.
    """
    buckets: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for parameter in parameters:
        if parameter.requires_grad:
            key = parameter.dtype, parameter.device
            buckets.setdefault(key, []).append(parameter)
    with torch.no_grad():
        for bucket in buckets.values():
            _reduce_bucket(bucket, points, data)


def _reduce_bucket(
    bucket: list[Tensor], points: "ProcessGroup", data: "ProcessGroup | None"
) -> None:
    """Reduce gradients of one dtype and device, and whether any process has each."""
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
    counts = grads[0].new_tensor([p.grad is not None for p in bucket])
    flat = torch.cat([*(grad.flatten() for grad in grads), counts])
    _all_reduce(flat, dist.ReduceOp.SUM, points)
    if data is not None:
        _all_reduce(flat, dist.ReduceOp.SUM, data)
        flat /= data.size()
    *parts, counts = flat.split([*(grad.numel() for grad in grads), len(grads)])
    for parameter, grad, part, count in zip(bucket, grads, parts, counts, strict=True):
        if parameter.grad is not None or count > 0:
            parameter.grad = grad.copy_(part.view_as(grad))
