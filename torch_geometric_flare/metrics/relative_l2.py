"""The relative error of a field or of each of several fields."""

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
    the studies with which it compares. All points have equal weight, independent of
    their area. Pass fields in physical units: normalized fields give other numbers.
    Nothing is added to the denominator, so a graph without points or with a target of
    zeros has no relative error and raises an error.

    With `zero_scale`, one number $s_c$ per channel, such as its standard deviation over
    the training set, a graph whose target is zero at every point gets an absolute error
    in units of this scale instead,

    $$
    e = \frac{\sqrt{\sum_{ic} \hat y_{ic}^2}}{\sqrt{\sum_{ic} s_c^2}}
    $$

    and all other graphs keep their relative error. `zero_graphs` returns which graphs
    these are.

    Do not average the errors of chunks of a field; use `RelativeL2`, which accumulates
    sums.

    The gradient at an exact prediction is zero, and the error is twice differentiable.

    With `group`, each process passes its own points of the graphs, and both sums are
    over all processes, so every process gets the total error. The error counts once,
    not once per process. After backward on every process, each has the gradient of its
    own predictions, and gradients of parameters are correct after summing over the
    group, see `functional.reduce_gradients`.

    Args:
        pred: Predicted field.
        target: True field, of the same shape.
        batch: Graph of each point, sorted; `None` for a single graph.
        batch_size: Number of graphs. Default: the largest index in `batch` plus one.
        group: Process group over which the points of these graphs are distributed.
        zero_scale: Scale of each channel for graphs with a target of zeros; with
            `None`, these raise an error.

    Shapes:
        - `pred`, `target`: $[N, C]$ or $[N]$
        - `batch`: $[N]$, `torch.long`
        - `zero_scale`: $[C]$

    Returns:
        One error per graph, $[B]$, in at least float32.

    Raises:
        ValueError: If the shapes of `pred` and `target` differ, `batch` does not fit
            them, a graph has no points or, without `zero_scale`, a target of zeros, or
            `zero_scale` is not one positive number per channel. With `group`, all
            processes raise it.
        RuntimeError: If a process of `group` is lost.
    """
    squares = torch.stack(
        [square.sum(1) for square in squared_error(pred, target)], dim=1
    )
    # [N, 2], so that one pass over the points computes both sums.
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
    """Return which graphs have a target of zeros, $[B]$ as `torch.bool`.

    This includes graphs without points.

    Args:
        target: True field.
        batch: Graph of each point, sorted; `None` for a single graph.
        batch_size: Number of graphs. Default: the largest index in `batch` plus one.
        group: Process group over which the points of these graphs are distributed.

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
    """Replace zero norms by the norm of a field that equals the scale."""
    scale = widen(torch.as_tensor(zero_scale, device=pred.device))
    channels = math.prod(pred.shape[1:])
    if scale.shape != (channels,) or not bool((scale > 0).all()):
        raise ValueError(
            f"zero_scale is {scale.tolist()}, expected one positive number for each of "
            f"{channels} channels"
        )
    zero = norm == 0
    if not bool(zero.any()):  # the same on all processes, because the norms are
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

    A single norm over channels of different units or magnitudes hides the error of
    small channels. This is `relative_l2` of each field's channels separately.

    Args:
        pred: Predicted fields, concatenated along the channels.
        target: True fields, of the same shape.
        fields: Names and channels of the fields, in the order of their columns.
        batch: Graph of each point, sorted; `None` for a single graph.
        batch_size: Number of graphs. Default: the largest index in `batch` plus one.
        group: Process group over which the points of these graphs are distributed, as
            in `relative_l2`.
        zero_scale: Scale of each channel for graphs where a field is zero, as in
            `relative_l2`; with `None`, these raise an error.

    Shapes:
        - `pred`, `target`: $[N, C]$, $C$ being the channels of all fields together;
          or $[N]$ for one field of one channel
        - `batch`: $[N]$, `torch.long`
        - `zero_scale`: $[C]$

    Returns:
        The errors by name of the field, $[B]$ each.

    Raises:
        ValueError: If `fields` is empty or does not fit the channels, or for the
            reasons of `relative_l2`, with the name of the field in the message.
        RuntimeError: If a process of `group` is lost.
    """
    if not fields:
        raise ValueError("fields is empty: pass at least one field")
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
            f"pred has {pred.size(1)} channels, but the fields ({names}) have "
            f"{expected}"
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
