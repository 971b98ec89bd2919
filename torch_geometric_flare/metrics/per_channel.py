"""The relative error of each component of a vector."""

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


def relative_l2_per_channel(
    pred: Tensor,
    target: Tensor,
    batch: Tensor | None = None,
    batch_size: int | None = None,
    group: "ProcessGroup | None" = None,
) -> Tensor:
    r"""Return the relative $L_2$ error of each channel of each graph.

    This is `relative_l2` of each channel separately. For a vector, it is the error of
    each component relative to this component. Small components can have a large error
    even if the error of the vector is small.

    Args:
        pred: Predicted field.
        target: True field, of the same shape.
        batch: Graph of each point, sorted; `None` for a single graph.
        batch_size: Number of graphs. Default: the largest index in `batch` plus one.
        group: Process group over which the points of these graphs are distributed, as
            in `relative_l2`.

    Shapes:
        - `pred`, `target`: $[N, C]$ or $[N]$
        - `batch`: $[N]$, `torch.long`

    Returns:
        One error per graph and channel, $[B, C]$, in at least float32.

    Raises:
        ValueError: If the shapes of `pred` and `target` differ, `batch` does not fit
            them, or a graph has a channel of zeros only or no points.
        RuntimeError: If a process of `group` is lost.
    """
    squares = torch.stack(squared_error(pred, target), dim=1)  # [N, 2, C]
    error, norm = sum_over_graphs(squares, batch, batch_size, group).unbind(1)
    return ratio_of_norms(error, norm).to(result_dtype(pred, target))
