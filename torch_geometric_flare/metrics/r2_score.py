"""The coefficient of determination of a prediction."""

import torch
from torch import Tensor

from torch_geometric_flare.metrics.graph_sum import graph_sum, widen
from torch_geometric_flare.metrics.squared_error import result_dtype, squared_error


def r2_score(
    pred: Tensor,
    target: Tensor,
    batch: Tensor | None = None,
    batch_size: int | None = None,
) -> Tensor:
    r"""Return the coefficient of determination $R^2$ of each graph.

    $$
    R^2 = 1 - \frac{\sum_{ic} (\hat y_{ic} - y_{ic})^2}
                   {\sum_{ic} (y_{ic} - \bar y_c)^2}
    $$

    over all points $i$ and channels $c$ of a graph, where $\bar y_c$ is the mean of a
    channel over this graph. It is one for an exact prediction, zero for the mean, and
    negative for worse predictions. Unlike the relative $L_2$ error, it does not change
    if a constant is added to the fields.

    Args:
        pred: Predicted field.
        target: True field, of the same shape.
        batch: Graph of each point, sorted; `None` for a single graph.
        batch_size: Number of graphs. Default: the largest index in `batch` plus one.

    Shapes:
        - `pred`, `target`: $[N, C]$ or $[N]$
        - `batch`: $[N]$, `torch.long`

    Returns:
        One value per graph, $[B]$, in at least float32.

    Raises:
        ValueError: If the shapes of `pred` and `target` differ, `batch` does not fit
            them, or all channels of a graph are constant or it has no points.
    """
    error = squared_error(pred, target)[0].sum(1, keepdim=True)
    values = widen(target).unsqueeze(-1).flatten(1)  # [N, C]
    counts = graph_sum(torch.ones_like(error), batch, batch_size)  # [B, 1]
    graph = torch.zeros(len(target), dtype=torch.long, device=target.device)
    graph = graph if batch is None else batch.long()
    # Subtract the first point of each graph, so that a constant becomes exactly zero;
    # the mean would be rounded.
    first = counts.long().flatten().cumsum(0) - counts.long().flatten()
    values = values - values[first[graph]]
    mean = graph_sum(values, batch, batch_size) / counts.clamp(min=1)
    spread = (values - mean[graph]).square().sum(1, keepdim=True)
    sums = graph_sum(torch.cat([error, spread], dim=1), batch, batch_size)
    error, variation = sums.unbind(1)
    undefined = (variation == 0).nonzero().flatten().tolist()
    if undefined:
        raise ValueError(
            f"target is constant over the graphs {undefined}, or they have no points, "
            "so R² is undefined: omit them or use an absolute error"
        )
    return (1 - error / variation).to(result_dtype(pred, target))
