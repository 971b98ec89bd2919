"""Softmax attention among all points of each graph, at quadratic cost."""

from torch import Tensor

from torch_geometric_flare.functional.attention.choice import compute
from torch_geometric_flare.functional.checks import check_given, check_scale
from torch_geometric_flare.functional.point_batch import PointBatch, check_layout


def ragged_self_attention(
    q: Tensor, k: Tensor, v: Tensor, layout: PointBatch, *, scale: float
) -> Tensor:
    r"""Compute $\mathrm{softmax}(s\,QK^\top)V$ within each graph of a batch.

    Graphs of similar sizes share one call of `scaled_dot_product_attention`, with
    padding masked out. Points of different graphs do not attend to each other.

    Args:
        q: Queries of the points, in the order of the layout.
        k: Keys of the points.
        v: Values of the points.
        layout: The layout.
        scale: Scaling factor $s$ of the scores.

    Shapes:
        - `q`, `k`, `v`: $[N, H, D]$

    Returns:
        $[N, H, D]$

    Raises:
        ValueError: If the shapes do not agree.
    """
    check_layout(layout)
    check_given(q=q, k=k, v=v)
    check_scale(scale)
    for name, rows in (("q", q), ("k", k), ("v", v)):
        if rows.dim() != 3 or rows.size(0) != layout.num_points:
            raise ValueError(
                f"{name} has shape {tuple(rows.shape)}, expected "
                f"[{layout.num_points}, H, D], one row per point of the layout"
            )
    if q.shape != k.shape or v.shape[:2] != k.shape[:2]:
        raise ValueError(
            f"q, k and v have shapes {tuple(q.shape)}, {tuple(k.shape)} and "
            f"{tuple(v.shape)}: all must have the same heads, q and k the same width"
        )
    if layout.num_points == 0:
        # A process without points must participate in backward too.
        return v + q.sum() + k.sum()
    y: Tensor = compute("self_attention", q, k, v, scale, layout)
    return y
