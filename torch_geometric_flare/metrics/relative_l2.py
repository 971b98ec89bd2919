"""The relative error of a field, and of each of several fields."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_geometric_flare.fields import Fields, channel_slices, num_channels
from torch_geometric_flare.functional import distributed_batch_size, distributed_sum
from torch_geometric_flare.metrics.graph_sum import graph_sum, widen

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def relative_l2(
    pred: Tensor,
    target: Tensor,
    batch: Tensor | None = None,
    batch_size: int | None = None,
    group: "ProcessGroup | None" = None,
) -> Tensor:
    r"""Return the relative $L_2$ error of each graph.

    Over all points $i$ and channels $c$ of a graph,

    $$
    e = \frac{\sqrt{\sum_{ic} (\hat y_{ic} - y_{ic})^2}}{\sqrt{\sum_{ic} y_{ic}^2}}
    $$

    the metric of FLARE ([arXiv:2508.12594](https://arxiv.org/abs/2508.12594)) and of
    the studies it compares with. Every point weighs the same, whatever its area. Pass
    fields in their own units: normalised ones give other numbers. Nothing is added to
    the denominator, so a graph without points or with a target of zeros has no
    relative error, and is refused.

    Errors of a field given in chunks must not be averaged: concatenate the chunks
    first.

    The gradient of an exact prediction is zero, and the error can be differentiated
    twice.

    With `group`, each process passes its own points of the graphs, and both sums run
    over all processes: every process gets the error of the whole. It counts as one
    number, not as one per process. After backward of it on every process, each has the
    gradient by its own predictions, and gradients of parameters are right once they are
    summed over the group, see `functional.reduce_gradients`.

    Args:
        pred: Predicted field.
        target: True field, of the same shape.
        batch: Graph of each point, sorted; `None` for a single graph.
        batch_size: Number of graphs; by default the largest in `batch` plus one.
        group: Processes that hold the other points of these graphs, if there are any.

    Shapes:
        - `pred`, `target`: $[N, C]$ or $[N]$
        - `batch`: $[N]$, `torch.long`

    Returns:
        One error for each graph, $[B]$, at least in single precision.

    Raises:
        ValueError: If the shapes of `pred` and `target` differ, `batch` does not fit
            them, or a graph has a target of zeros only or no points; with `group`, on
            all its processes.
        RuntimeError: If a process of `group` is lost.
    """
    if pred.shape != target.shape or pred.dim() == 0:
        raise ValueError(
            f"pred has shape {tuple(pred.shape)} and target {tuple(target.shape)}: "
            "they must agree, with points in the first dimension"
        )
    dtype = torch.promote_types(
        torch.promote_types(pred.dtype, target.dtype), torch.float32
    )
    if pred.dim() == 1:
        pred, target = pred.unsqueeze(1), target.unsqueeze(1)
    pred, target = widen(pred).flatten(1), widen(target).flatten(1)
    if group is not None:
        batch_size = distributed_batch_size(batch, batch_size, group, pred.device)
    # [N, 2]: one pass over the points sums both.
    squares = torch.stack(
        [(pred - target).square().sum(1), target.square().sum(1)], dim=1
    )
    sums = distributed_sum(graph_sum(squares, batch, batch_size), group)
    error, norm = sums.unbind(1)
    undefined = (norm == 0).nonzero().flatten().tolist()
    if undefined:
        raise ValueError(
            f"target is zero at every point of the graphs {undefined}, or they have no "
            "points, so that their relative error is undefined: leave them out or "
            "measure an absolute error"
        )
    # The square root has no slope at zero; an exact prediction gets the slope zero.
    exact = error == 0
    ratio = torch.where(exact, 1.0, error / norm).sqrt()
    return torch.where(exact, 0.0, ratio).to(dtype)


def relative_l2_per_field(
    pred: Tensor,
    target: Tensor,
    fields: Fields,
    batch: Tensor | None = None,
    batch_size: int | None = None,
    group: "ProcessGroup | None" = None,
) -> dict[str, Tensor]:
    r"""Return the relative $L_2$ error of each field of each graph.

    A single norm over channels of different units or magnitudes says nothing of the
    small ones: this is `relative_l2` of the channels of each field by themselves.

    Args:
        pred: Predicted fields, side by side.
        target: True fields, of the same shape.
        fields: Names and channels of the fields, in the order of their columns.
        batch: Graph of each point, sorted; `None` for a single graph.
        batch_size: Number of graphs; by default the largest in `batch` plus one.
        group: Processes that hold the other points of these graphs, if there are any,
            as for `relative_l2`.

    Shapes:
        - `pred`, `target`: $[N, C]$, $C$ being the channels of all fields together;
          or $[N]$ for one field of one channel
        - `batch`: $[N]$, `torch.long`

    Returns:
        By the name of the field one error per graph, $[B]$ each.

    Raises:
        ValueError: If `fields` is empty or does not fit the channels, or for what
            `relative_l2` refuses; the message names the field.
        RuntimeError: If a process of `group` is lost.
    """
    if not fields:
        raise ValueError("fields is empty: name at least one field")
    expected = num_channels(fields)
    if pred.shape != target.shape or pred.dim() not in (1, 2):
        raise ValueError(
            f"pred has shape {tuple(pred.shape)} and target {tuple(target.shape)}: "
            f"both must be [N, {expected}]"
        )
    if pred.dim() == 1:
        pred, target = pred.unsqueeze(1), target.unsqueeze(1)
    if pred.size(1) != expected:
        names = ", ".join(f"{field.name} of {field.channels}" for field in fields)
        raise ValueError(
            f"pred has {pred.size(1)} channels, the fields ({names}) have {expected}"
        )
    errors: dict[str, Tensor] = {}
    for name, columns in channel_slices(fields).items():
        try:
            errors[name] = relative_l2(
                pred[:, columns], target[:, columns], batch, batch_size, group
            )
        except ValueError as error:
            raise ValueError(f"field {name!r}: {error}") from error
    return errors
