"""Sums of squares, from which relative errors are computed."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_geometric_flare.functional import distributed_batch_size, distributed_sum
from torch_geometric_flare.functional.checks import check_given, check_strided
from torch_geometric_flare.metrics.graph_sum import column, graph_sum, widen

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def squared_error(
    pred: Tensor, target: Tensor, area: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the squares of the error and of the target at each point and channel.

    Args:
        pred: Predicted field.
        target: True field, of the same shape.
        area: Weight of each point. Default: one.

    Shapes:
        - `pred`, `target`: $[N, ...]$
        - `area`: $[N]$ or $[N, 1]$

    Returns:
        Both $[N, C]$ in double precision, where $C$ is the product of all dimensions
        but the first.

    Raises:
        ValueError: If the shapes do not fit, or an area is negative or non-finite.
    """
    check_strided(pred=pred, target=target, area=area)
    if pred is None or target is None or pred.device != target.device:
        check_given(pred=pred, target=target)
    if pred.shape != target.shape or pred.dim() == 0:
        raise ValueError(
            f"pred has shape {tuple(pred.shape)} and target {tuple(target.shape)}: "
            "they must be equal, with points in the first dimension"
        )
    if pred.dim() == 1:
        pred, target = pred.unsqueeze(1), target.unsqueeze(1)
    pred, target = widen(pred).flatten(1), widen(target).flatten(1)
    error, norm = (pred - target).square(), target.square()
    if area is None:
        return error, norm
    if not bool((area.isfinite() & (area >= 0)).all()):
        raise ValueError("area has negative or non-finite values")
    weight = widen(column("area", area, pred.size(0)))
    return weight * error, weight * norm


def sum_over_graphs(
    values: Tensor,
    batch: Tensor | None,
    batch_size: int | None,
    group: "ProcessGroup | None" = None,
) -> Tensor:
    """Return `graph_sum` over the points of all processes of `group`."""
    if group is not None:
        batch_size = distributed_batch_size(batch, batch_size, group, values.device)
    return distributed_sum(graph_sum(values, batch, batch_size), group)


def ratio_of_norms(error: Tensor, norm: Tensor) -> Tensor:
    r"""Return $\sqrt{e / n}$, with a gradient of zero where $e = 0$.

    Args:
        error: Sums of squares of the error, per graph.
        norm: Sums of squares of the target.

    Shapes:
        - `error`, `norm`: $[B, ...]$

    Raises:
        ValueError: If a norm is zero. The message names the graphs.
    """
    zero = norm == 0
    undefined = zero.flatten(1).any(1) if zero.dim() > 1 else zero
    if bool(undefined.any()):
        graphs = undefined.nonzero().flatten().tolist()
        raise ValueError(
            f"target is zero at every point of the graphs {graphs}, or they have no "
            "points, so their relative error is undefined: omit them, or pass "
            "zero_scale to `relative_l2` for an absolute error"
        )
    # The square root is not differentiable at zero; use a gradient of zero there.
    exact = error == 0
    ratio = torch.where(exact, 1.0, error / norm).sqrt()
    return torch.where(exact, 0.0, ratio)


def result_dtype(pred: Tensor, target: Tensor) -> torch.dtype:
    """Return the wider of both dtypes, at least float32."""
    return torch.promote_types(
        torch.promote_types(pred.dtype, target.dtype), torch.float32
    )
