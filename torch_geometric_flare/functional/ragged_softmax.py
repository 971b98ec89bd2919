"""Softmax of given scores over the points of each graph."""

import torch
from torch import Tensor

from torch_geometric_flare.functional.checks import log_weight
from torch_geometric_flare.functional.point_batch import PointBatch
from torch_geometric_flare.functional.ragged_sum import ragged_sum_encode
from torch_geometric_flare.functional.state import SoftmaxState, state_dtype
from torch_geometric_flare.functional.torch_internals import no_autocast


def ragged_softmax_encode(
    scores: Tensor, values: Tensor, layout: PointBatch
) -> SoftmaxState:
    r"""Average values over the points of each graph: $\mathrm{softmax}_N(S)^\top V$.

    Like `ragged_flare_encode`, for scores that are not products of queries and keys.

    Args:
        scores: Scores of the points for each latent, in the order of the layout.
        values: Values of the points, in the order of the layout.
        layout: The layout. If its points have weights, their logarithms are added to
            the scores.

    Shapes:
        - `scores`: $[N, H, M]$
        - `values`: $[N, H, D]$

    Returns:
        Value $[B, H, M, D]$ and log-sum-exp $[B, H, M]$ in at least float32, with
        graphs in batch order. An empty graph has the empty state.

    Raises:
        ValueError: If the shapes do not agree.
    """
    if (
        scores.dim() != 3
        or values.dim() != 3
        or scores.shape[:2] != values.shape[:2]
        or scores.size(0) != layout.num_points
    ):
        raise ValueError(
            f"scores has shape {tuple(scores.shape)} and values {tuple(values.shape)}: "
            f"expected [N, H, M] and [N, H, D] with N={layout.num_points} points in "
            "the layout"
        )
    like = values.new_empty(0, dtype=state_dtype(values.dtype))
    shape = layout.num_graphs, *scores.shape[1:], values.size(-1)
    value, lse = SoftmaxState.empty(*shape, like=like)
    if layout.num_points == 0:
        # A process without points must participate in backward too.
        return SoftmaxState(value + scores.sum() + values.sum(), lse)
    scores = scores.to(like.dtype)
    if layout.weight is not None:
        # Finite, because the softmax of a row of minus infinities would be NaN.
        logs = log_weight(layout.weight).clamp_min(torch.finfo(like.dtype).min / 2)
        scores = scores + logs.to(like.dtype)[:, None, None]
    blocks = zip(
        layout.dense_batches,
        layout.split(scores),
        layout.split(values.to(like.dtype)),
        strict=True,
    )
    with no_autocast(values.device.type):
        for dense, s, v in blocks:  # [B, n, H, M] and [B, n, H, D]
            graphs = torch.tensor(dense.graphs, device=s.device)
            s, v = s.permute(0, 2, 3, 1), v.transpose(1, 2)
            if dense.mask is not None:
                s = s.masked_fill(~dense.mask[:, None, None], -torch.inf)
            value = value.index_copy(0, graphs, s.softmax(dim=-1) @ v)
            lse = lse.index_copy(0, graphs, s.logsumexp(dim=-1))
    if layout.weight is None:
        return SoftmaxState(value, lse)
    # A graph with only zero weights counts as empty.
    ones = scores.new_ones(layout.num_points, 1, 1)
    weighted = ragged_sum_encode(ones, ones, layout).weight > 0  # [B, 1, 1]
    return SoftmaxState(
        value * weighted[..., None], lse.masked_fill(~weighted, -torch.inf)
    )
