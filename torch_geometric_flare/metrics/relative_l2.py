"""The relative error of a field, and of each of several fields."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_geometric_flare.fields import Fields, channel_slices, num_channels
from torch_geometric_flare.metrics.graph_sum import widen
from torch_geometric_flare.metrics.squared_error import (
    ratio_of_norms,
    result_dtype,
    squared_error,
    sum_over_graphs,
)

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def relative_l2(
    pred: Tensor,
    target: Tensor,
    batch: Tensor | None = None,
    batch_size: int | None = None,
    group: "ProcessGroup | None" = None,
    *,
    zero_scale: Tensor | Sequence[float] | None = None,
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

    With `zero_scale`, one number $s_c$ for each channel such as the deviation over the
    training set, a graph whose target is zero at every point gets an absolute error in
    units of that scale instead,

    $$
    e = \frac{\sqrt{\sum_{ic} \hat y_{ic}^2}}{\sqrt{\sum_{ic} s_c^2}}
    $$

    and all other graphs keep their relative error. `zero_graphs` tells which are which.

    Errors of a field given in chunks must not be averaged: `RelativeL2` adds up their
    sums.

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
        zero_scale: Scale of each channel for graphs with a target of zeros; `None`
            refuses them.

    Shapes:
        - `pred`, `target`: $[N, C]$ or $[N]$
        - `batch`: $[N]$, `torch.long`
        - `zero_scale`: $[C]$

    Returns:
        One error for each graph, $[B]$, at least in single precision.

    Raises:
        ValueError: If the shapes of `pred` and `target` differ, `batch` does not fit
            them, a graph has no points, or without `zero_scale` a target of zeros only;
            with `group`, on all its processes. If `zero_scale` is not one positive
            number for each channel.
        RuntimeError: If a process of `group` is lost.
    """
    squares = torch.stack(
        [square.sum(1) for square in squared_error(pred, target)], dim=1
    )
    # [N, 2]: one pass over the points sums both.
    error, norm = sum_over_graphs(squares, batch, batch_size, group).unbind(1)
    if zero_scale is not None:
        norm = _replace_zeros(norm, pred, zero_scale, batch, batch_size, group)
    return ratio_of_norms(error, norm).to(result_dtype(pred, target))


def zero_graphs(
    target: Tensor,
    batch: Tensor | None = None,
    batch_size: int | None = None,
    group: "ProcessGroup | None" = None,
) -> Tensor:
    """Return which graphs have a target of zeros only, $[B]$ in `torch.bool`.

    A graph without points counts as one.

    Args:
        target: True field.
        batch: Graph of each point, sorted; `None` for a single graph.
        batch_size: Number of graphs; by default the largest in `batch` plus one.
        group: Processes that hold the other points of these graphs, if there are any.

    Shapes:
        - `target`: $[N, C]$ or $[N]$
        - `batch`: $[N]$, `torch.long`
    """
    norm = squared_error(target, target)[1].sum(1, keepdim=True)
    return sum_over_graphs(norm, batch, batch_size, group).squeeze(1) == 0


def _replace_zeros(
    norm: Tensor,
    pred: Tensor,
    zero_scale: Tensor | Sequence[float],
    batch: Tensor | None,
    batch_size: int | None,
    group: "ProcessGroup | None",
) -> Tensor:
    """Return the norms with that of a field as large as the scale in place of zeros."""
    scale = widen(torch.as_tensor(zero_scale, device=pred.device))
    channels = math.prod(pred.shape[1:])
    if scale.shape != (channels,) or not bool((scale > 0).all()):
        raise ValueError(
            f"zero_scale is {scale.tolist()}, expected a positive number for each of "
            f"{channels} channels"
        )
    zero = norm == 0
    if not bool(zero.any()):  # the same on all processes, as the norms are
        return norm
    ones = torch.ones(pred.size(0), 1, device=pred.device)
    points = sum_over_graphs(ones, batch, batch_size, group).squeeze(1)
    return torch.where(zero, points * scale.square().sum(), norm)


def relative_l2_per_field(
    pred: Tensor,
    target: Tensor,
    fields: Fields,
    batch: Tensor | None = None,
    batch_size: int | None = None,
    group: "ProcessGroup | None" = None,
    *,
    zero_scale: Tensor | Sequence[float] | None = None,
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
        zero_scale: Scale of each channel, for graphs where a field is zero, as for
            `relative_l2`; `None` refuses them.

    Shapes:
        - `pred`, `target`: $[N, C]$, $C$ being the channels of all fields together;
          or $[N]$ for one field of one channel
        - `batch`: $[N]$, `torch.long`
        - `zero_scale`: $[C]$

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
                pred[:, columns],
                target[:, columns],
                batch,
                batch_size,
                group,
                zero_scale=None if zero_scale is None else zero_scale[columns],
            )
        except ValueError as error:
            raise ValueError(f"field {name!r}: {error}") from error
    return errors
