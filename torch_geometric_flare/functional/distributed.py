r"""Sums and states of points that are distributed over processes.

Each process of a group holds some of the points, possibly none. A tensor computed from
these points is *local*; a tensor that is the same on all processes is *shared*. The
gradient of a shared tensor counts once, not once per process. For a shared loss, or for
local losses that are to be summed, backward on every process therefore yields gradients
whose sum over the group is the gradient for all points.
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

# The number of graphs on a process that does not specify it.
_UNSPECIFIED = 1 << 62

# Number of checksums that processes compare in addition to the number of graphs.
_CHECKSUMS = 5

S = TypeVar("S", bound=State)


def _all_reduce(x: Tensor, op: Any, group: "ProcessGroup") -> None:
    if dist.get_rank(group) < 0:
        raise ValueError("group does not contain this process: pass one that does")
    try:
        dist.all_reduce(x, op, group)
    except RuntimeError as error:
        raise RuntimeError(
            f"lost contact with a process of this group of {group.size()}: it exited, "
            "exceeded the timeout of the group, or sent a tensor of another shape. "
            "Look for the first error in the logs of the other processes, and restart "
            "all of them"
        ) from error


class _Sum(torch.autograd.Function):
    """Sum local tensors to a shared one. Each term gets the gradient of the sum."""

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
    """Use a shared tensor locally. The gradients of all processes are summed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: "ProcessGroup") -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(grads[0], ctx.group), None  # type: ignore[no-untyped-call]


def distributed_sum(x: Tensor, group: "ProcessGroup | None") -> Tensor:
    r"""Sum a tensor over a group, for a loss over all points.

    The sum is shared and counts once: if each process calls backward on the same
    function $f(\sum_r x_r)$, each gets $f'$ as the gradient of its own term, not $f'$
    times the number of processes. Supports derivatives of any order. If a process
    combines the sum with its own points, as it does with a mean over points, pass the
    sum through `distributed_copy` first.

    Args:
        x: A tensor of the same shape and dtype on every process.
        group: The processes that hold the points; `None` for this process alone.

    Returns:
        The sum, bitwise identical on every process.

    Raises:
        RuntimeError: If a process of the group has exited or exceeds the timeout of
            the group.
    """
    if group is None:
        return x
    total: Tensor = _Sum.apply(x, group)  # type: ignore[no-untyped-call]
    return total


def distributed_copy(x: Tensor, group: "ProcessGroup | None") -> Tensor:
    r"""Prepare a shared tensor for use with each process's own points.

    The value does not change. In backward, the gradients of all processes are summed,
    as `reduce_gradients` does for parameters. A mean over all points is thus
    `distributed_copy(distributed_sum(x.sum(0), group), group) / num_points`. Supports
    derivatives of any order.

    Args:
        x: A tensor that is the same on every process.
        group: The processes that hold the points; `None` for this process alone.

    Returns:
        `x`, whose gradient sums its uses on all processes. All of them must
        participate in backward.
    """
    if group is None:
        return x
    copy: Tensor = _Copy.apply(x, group)  # type: ignore[no-untyped-call]
    return copy


def distributed_merge(state: S, group: "ProcessGroup | None") -> S:
    r"""Merge the states of all processes of a group into the state of all points.

    Equivalent to `merge` over all processes. For a `SoftmaxState`, with $t$ the largest
    $\ell_r$,

    $$Z = \frac{\sum_r e^{\ell_r - t} Z_r}{\sum_r e^{\ell_r - t}}, \qquad
      \ell = t + \log \sum_r e^{\ell_r - t}$$

    This takes an all-reduce of maxima and one of sums, and one of sums in backward.
    Their sizes do not depend on the number of points. Empty states, even of all
    processes, cause no NaN. Supports derivatives of any order: the gradient of a state
    accounts for the outputs of all processes.

    Every process must participate, also in backward. If one process requires a
    gradient, the merged state requires one on all of them.

    Args:
        state: The state of this process's points, of the same class, shape and dtype on
            every process.
        group: The processes that hold the points; `None` for this process alone.

    Returns:
        The merged state, bitwise identical on every process.

    Raises:
        RuntimeError: If a process of the group has exited or exceeds the timeout of
            the group.
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
    """Determine the number of graphs of a batch that is distributed over a group.

    Args:
        batch: Graph index of each of this process's points, sorted; `None` for one
            graph.
        batch_size: Number of graphs, the same on every process that specifies it;
            `None` for the largest index in `batch` over all processes plus one.
        group: The processes that hold the points.
        device: Device of the all-reduce of 96 bytes.
        checksums: Up to five numbers that must be the same on every process, keyed by
            their meaning, such as `"weights"`.

    Returns:
        The number of graphs, the same on every process.

    Raises:
        ValueError: If the processes disagree, on all of them.
        RuntimeError: If a process of the group is lost.
    """
    specified = 1 if batch is None and batch_size is None else batch_size
    counted = 0 if batch is None or not len(batch) else int(batch[-1]) + 1
    sums = dict(checksums or {})
    # Fixed size, so that the all-reduce works even if the processes differ.
    values = [*sums.values(), *[0] * (_CHECKSUMS - len(sums))]
    numbers = torch.tensor(
        [
            max(counted, specified or 0),
            -(_UNSPECIFIED if specified is None else specified),
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
            "one process, and pass points of the same dtype"
        )
    if -smallest < largest:
        raise ValueError(
            f"batch_size is {-smallest} on one process but another has {largest} "
            "graphs: pass the number of graphs of the whole batch on every process"
        )
    return int(largest)


def reduce_gradients(
    parameters: Iterable[Tensor],
    points: "ProcessGroup",
    data: "ProcessGroup | None" = None,
) -> None:
    """Sum gradients over processes that share points and average them over samples.

    Call this after backward on every process. Each dtype and group takes one
    all-reduce. A missing gradient counts as zero unless it is missing on all processes;
    then it stays `None`.

    Args:
        parameters: The parameters, in the same order on every process. Those that do
            not require a gradient are skipped.
        points: The processes that hold the points of the same samples.
        data: The processes with the same rank in groups of different samples, if there
            are several such groups.

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
    """Reduce gradients of one dtype and device, and count the processes with each."""
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
