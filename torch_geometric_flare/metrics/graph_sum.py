"""Sums over the points of each graph in a batch."""

import torch
from torch import Tensor
from torch_geometric.index import index2ptr
from torch_geometric.utils import segment

from torch_geometric_flare.functional.checks import check_strided
from torch_geometric_flare.functional.point_batch import check_batch


class _SegmentSum(torch.autograd.Function):
    """`segment` with a differentiable gradient.

    Neither `torch.segment_reduce` nor torch-scatter has a second derivative.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, *args: Tensor) -> Tensor:
        values, batch, pointers = args
        ctx.save_for_backward(batch)
        total: Tensor = segment(values, pointers, reduce="sum")
        return total

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        (batch,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad[0].index_select(0, batch), None, None


def widen(values: Tensor) -> Tensor:
    """Convert to float64, or to float32 on devices without float64 (`mps`)."""
    return values.float() if values.device.type == "mps" else values.double()


def column(name: str, values: Tensor, num_points: int) -> Tensor:
    """Return values [N] or [N, 1] as [N, 1]; other shapes would broadcast silently."""
    check_strided(**{name: values})
    if values is None:
        raise TypeError(f"{name} is None, expected a torch.Tensor")
    if values.shape == (num_points,):
        return values.unsqueeze(1)
    if values.shape != (num_points, 1):
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}, expected ({num_points},) or "
            f"({num_points}, 1): one value per point"
        )
    return values


def graph_sum(
    values: Tensor, batch: Tensor | None = None, batch_size: int | None = None
) -> Tensor:
    """Return the sum over the points of each graph in double precision.

    In single precision, sums of millions of terms would not be accurate enough for a
    metric.

    Args:
        values: Values to sum.
        batch: Graph of each point, sorted; `None` for a single graph.
        batch_size: Number of graphs. Default: the largest index in `batch` plus one.
            Pass it if trailing graphs may be empty.

    Shapes:
        - `values`: $[N, ...]$
        - `batch`: $[N]$, integers

    Returns:
        The sums $[B, ...]$, zero for empty graphs.

    Raises:
        ValueError: If `batch` has another length, is unsorted or negative, or holds an
            index that is not below `batch_size`.
    """
    values = widen(values)
    check_batch(batch, values.size(0), batch_size)
    if batch is None:
        return values.sum(0, keepdim=True)
    batch = batch.long()
    if batch_size is None:
        batch_size = int(batch[-1]) + 1 if batch.numel() else 0
    total: Tensor = _SegmentSum.apply(  # type: ignore[no-untyped-call]
        values, batch, index2ptr(batch, batch_size)
    )
    return total
