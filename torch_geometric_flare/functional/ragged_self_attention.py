"""Softmax attention among all points of each graph, at quadratic cost."""

from torch import Tensor

from torch_geometric_flare.functional.checks import check_given, check_scale
from torch_geometric_flare.functional.definition import key_mask, softmax_attention
from torch_geometric_flare.functional.dispatch import (
    join_blocks,
    row_blocks,
)
from torch_geometric_flare.functional.point_batch import PointBatch, check_layout
from torch_geometric_flare.functional.sdpa import fused_attention
from torch_geometric_flare.functional.torch_internals import is_traced, is_transformed
from torch_geometric_flare.functional.varlen import (
    varlen_obstacle,
    varlen_self_attention,
)


def ragged_self_attention(
    q: Tensor, k: Tensor, v: Tensor, batch: PointBatch, *, scale: float
) -> Tensor:
    r"""Compute $\mathrm{softmax}(s\,QK^\top)V$ within each graph of a batch.

    Graphs of similar sizes share one call of `scaled_dot_product_attention`, with
    padding masked out, so no scores of points of different graphs count.

    Args:
        q: Queries of the points, in the order of the layout.
        k: Keys of the points.
        v: Values of the points.
        batch: The layout.
        scale: Factor $s$ on the scores.

    Shapes:
        - `q`, `k`, `v`: $[N, H, D]$

    Returns:
        $[N, H, D]$

    Raises:
        ValueError: If the shapes do not agree.
    """
    check_layout(batch)
    check_given(q=q, k=k, v=v)
    check_scale(scale)
    for name, rows in (("q", q), ("k", k), ("v", v)):
        if rows.dim() != 3 or rows.size(0) != batch.num_points:
            raise ValueError(
                f"{name} has shape {tuple(rows.shape)}, expected "
                f"[{batch.num_points}, H, D], a row for each point of the layout"
            )
    if q.shape != k.shape or v.shape[:2] != k.shape[:2]:
        raise ValueError(
            f"q, k and v have shapes {tuple(q.shape)}, {tuple(k.shape)} and "
            f"{tuple(v.shape)}: they must agree in heads, q and k in their width too"
        )
    if batch.num_points == 0:
        # What has no points takes part in backward all the same.
        return v + q.sum() + k.sum()
    traced = is_traced()
    if varlen_obstacle("attention", k, batch, traced) is None:
        return varlen_self_attention(q, k, v, batch, scale)
    blocks = zip(
        *(row_blocks(batch, rows) for rows in (q, k, v)),
        [key_mask(dense.mask) for dense in batch.dense_batches],
        strict=True,
    )
    results = []
    for queries, keys, values, mask in blocks:
        if is_transformed():  # the fused call cannot be differentiated twice there
            y = softmax_attention(queries, keys, values, mask, scale)
        else:
            y = fused_attention(queries, keys, values, mask, scale, traced)
        results.append(y)
    return join_blocks(batch, results)
