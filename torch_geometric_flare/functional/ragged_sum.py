"""Weighted sums over the points of each graph, and their evaluation at points."""

import torch
from torch import Tensor

from torch_geometric_flare.functional.point_batch import PointBatch
from torch_geometric_flare.functional.state import SumState, state_dtype
from torch_geometric_flare.functional.torch_internals import no_autocast


def ragged_sum_encode(weights: Tensor, values: Tensor, layout: PointBatch) -> SumState:
    r"""Sum over the points of each graph: $\sum_n w_n f_n^\top$ and $\sum_n w_n$.

    Args:
        weights: Weights of the points, in the order of the layout.
        values: Values of the points, in the order of the layout.
        layout: The layout. If its points have weights $a_n$, $w_n$ becomes
            $a_n w_n$.

    Shapes:
        - `weights`: $[N, H, G]$
        - `values`: $[N, H, D]$

    Returns:
        Sums $[B, H, G, D]$ and $[B, H, G]$ in at least float32, with graphs in batch
        order; zero for an empty graph.
    """
    dtype = state_dtype(values.dtype)
    weights = weights.to(dtype)
    if layout.weight is not None:
        weights = weights * layout.weight.to(dtype)[:, None, None]
    shape = layout.num_graphs, *weights.shape[1:]
    total = values.new_zeros(*shape, values.size(-1), dtype=dtype)
    weight = values.new_zeros(shape, dtype=dtype)
    if layout.num_points == 0:
        # A process without points must participate in backward too.
        return SumState(total + weights.sum() + values.sum(), weight)
    blocks = zip(
        layout.dense_batches,
        layout.split(weights),
        layout.split(values.to(dtype)),
        strict=True,
    )
    with no_autocast(values.device.type):
        for dense, w, f in blocks:  # [B, n, H, G] and [B, n, H, D]; padding adds zero
            graphs = torch.tensor(dense.graphs, device=w.device)
            w = w.transpose(1, 2)
            total = total.index_copy(0, graphs, w.mT @ f.transpose(1, 2))
            weight = weight.index_copy(0, graphs, w.sum(dim=2))
    return SumState(total, weight)


def ragged_sum_decode(weights: Tensor, total: Tensor, layout: PointBatch) -> Tensor:
    r"""Return $w_n^\top T$ at each point, where $T$ is the matrix of its graph.

    Args:
        weights: Weights of the points, in the order of the layout.
        total: The matrix of each graph.
        layout: The layout.

    Shapes:
        - `weights`: $[N, H, G]$
        - `total`: $[B, H, G, D]$

    Returns:
        $[N, H, D]$ in the dtype of `weights`.
    """
    if layout.num_points == 0:
        # A process without points must participate in backward too.
        y = weights.new_empty(0, weights.size(1), total.size(-1))
        return y + weights.sum() + total[:0].sum().to(weights.dtype)
    total = total.to(weights.dtype)
    pairs = zip(layout.dense_batches, layout.split(weights), strict=True)
    return layout.join(
        [
            (w.transpose(1, 2) @ total[list(dense.graphs)]).transpose(1, 2)
            for dense, w in pairs
        ]
    )
