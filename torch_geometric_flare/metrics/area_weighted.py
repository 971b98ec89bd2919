"""The area-weighted relative error of a field on a surface."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_geometric_flare.metrics.squared_error import (
    ratio_of_norms,
    result_dtype,
    squared_error,
    sum_over_graphs,
)

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def area_weighted_relative_l2(
    pred: Tensor,
    target: Tensor,
    area: Tensor,
    batch: Tensor | None = None,
    batch_size: int | None = None,
    group: "ProcessGroup | None" = None,
) -> Tensor:
    r"""Return the relative $L_2$ error of each graph, weighted by area.

    Over all points $i$ and channels $c$ of a graph,

    $$
    e = \frac{\sqrt{\sum_{ic} A_i (\hat y_{ic} - y_{ic})^2}}
             {\sqrt{\sum_{ic} A_i\, y_{ic}^2}}
    $$

    the ratio of the norms of two fields on a surface (or, with volumes as weights, in a
    volume). Unlike `relative_l2`, it does not depend on where the mesh is fine. The two
    metrics differ and must be reported under different names. In all other respects,
    this function is like `relative_l2`.

    Args:
        pred: Predicted field.
        target: True field, of the same shape.
        area: Area of each point or cell, in any unit.
        batch: Graph of each point, sorted; `None` for a single graph.
        batch_size: Number of graphs. Default: the largest index in `batch` plus one.
        group: Process group over which the points of these graphs are distributed.

    Shapes:
        - `pred`, `target`: $[N, C]$ or $[N]$
        - `area`: $[N]$ or $[N, 1]$
        - `batch`: $[N]$, `torch.long`

    Returns:
        One error per graph, $[B]$, in at least float32.

    Raises:
        ValueError: If a shape does not fit, an area is negative or non-finite, or the
            target of a graph is zero at all points with nonzero area.
        RuntimeError: If a process of `group` is lost.
    """
    squares = torch.stack(
        [square.sum(1) for square in squared_error(pred, target, area)], dim=1
    )
    error, norm = sum_over_graphs(squares, batch, batch_size, group).unbind(1)
    return ratio_of_norms(error, norm).to(result_dtype(pred, target))
