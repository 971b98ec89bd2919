"""FLARE attention over ragged batches: one dense call for each group of graphs."""

from functools import partial
from typing import cast

import torch
from torch import Tensor

from torch_geometric_flare.functional.attention import (
    flare_attention,
    flare_decode,
    flare_encode,
)
from torch_geometric_flare.functional.encode import empty_state
from torch_geometric_flare.functional.naive import naive_flare_weights
from torch_geometric_flare.functional.point_batch import PointBatch
from torch_geometric_flare.functional.state import LatentState
from torch_geometric_flare.functional.tied import (
    prefers_tied,
    tied_attention,
    tied_decode,
    tied_encode,
)

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # an older torch
    varlen_attn = None  # type: ignore[assignment]


def _check(
    q: Tensor, k: Tensor, batch: PointBatch, v: Tensor | None, z: Tensor | None = None
) -> None:
    """Refuse shapes that do not agree."""
    if k.dim() != 3 or q.dim() != 3 or (q.size(0), q.size(2)) != tuple(k.shape[1:]):
        raise ValueError(
            f"q has shape {tuple(q.shape)} and k {tuple(k.shape)}: expected [H, M, D] "
            "and [N, H, D]"
        )
    if v is not None and (v.dim() != 3 or v.shape[:2] != k.shape[:2]):
        raise ValueError(
            f"v has shape {tuple(v.shape)}, expected {tuple(k.shape[:2])} + (width,), "
            "one value for each key"
        )
    if z is not None and (
        z.dim() != 4 or z.shape[:3] != (batch.num_graphs, *q.shape[:2])
    ):
        raise ValueError(
            f"z has shape {tuple(z.shape)}, expected "
            f"{(batch.num_graphs, *q.shape[:2])} + (width,), one for each latent"
        )
    if sum(batch.sizes) != k.size(0):
        raise ValueError(
            f"the layout is of {sum(batch.sizes)} points but k has {k.size(0)} rows"
        )


def _heads_first(x: Tensor) -> Tensor:
    return x.transpose(1, 2)  # [B, n, H, D] <-> [B, H, n, D]


def ragged_flare_attention(
    q: Tensor, k: Tensor, v: Tensor, batch: PointBatch, *, scale: float = 1.0
) -> Tensor:
    r"""FLARE attention within each graph of a batch.

    Args:
        q: Latent queries.
        k: Keys of the points, in the order of the layout.
        v: Values of the points, in the order of the layout.
        batch: The layout.
        scale: Factor on the scores.

    Shapes:
        - `q`: $[H, M, D]$
        - `k`, `v`: $[N, H, D]$

    Returns:
        $[N, H, D]$: what `flare_attention` gives for each graph alone.

    Raises:
        ValueError: If the shapes do not agree.
    """
    _check(q, k, batch, v)
    if not batch.groups:
        return v
    # The kernel takes these widths; otherwise its one group is padded.
    if batch.varlen and varlen_attn is not None and k.size(-1) in range(8, 257, 8):
        return _varlen_attention(q, k, v, batch, scale)
    if prefers_tied(q[None], k, v, scale):
        return tied_attention(q[None], k, v, batch.tasks, scale)
    return batch.join(
        [
            _heads_first(
                flare_attention(
                    q,
                    _heads_first(k_block),
                    _heads_first(v_block),
                    scale=scale,
                    mask=group.mask,
                )
            )
            for group, k_block, v_block in zip(
                batch.groups, batch.split(k), batch.split(v), strict=True
            )
        ]
    )


def _varlen_attention(
    q: Tensor, k: Tensor, v: Tensor, batch: PointBatch, scale: float
) -> Tensor:
    """Two calls of the fused CUDA kernel for ragged sequences."""
    (group,) = batch.groups
    num_latents = q.size(1)
    sizes = torch.tensor([batch.sizes[g] for g in group.graphs])
    # Cumulative positions, which the kernel wants in 32 bits.
    points = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    points = points.to(q.device, torch.int32)
    latents = num_latents * torch.arange(
        len(group.graphs) + 1, device=q.device, dtype=torch.int32
    )
    queries = q.transpose(0, 1).repeat(len(group.graphs), 1, 1)  # [B * M, H, D]
    # One split: with more, the rounding of a graph depends on the largest in the batch.
    attend = partial(varlen_attn, scale=scale, num_splits=1)
    z = cast(
        Tensor,
        attend(queries, k, v, latents, points, num_latents, group.size),
    )
    return cast(
        Tensor,
        attend(k, queries, z, points, latents, group.size, num_latents),
    )


def ragged_flare_encode(
    q: Tensor, k: Tensor, v: Tensor, batch: PointBatch, *, scale: float = 1.0
) -> LatentState:
    r"""The state of each graph of a batch.

    Args:
        q: Latent queries.
        k: Keys of the points, in the order of the layout.
        v: Values of the points, in the order of the layout.
        batch: The layout.
        scale: Factor on the scores.

    Shapes:
        - `q`: $[H, M, D]$
        - `k`, `v`: $[N, H, D]$

    Returns:
        Value $[B, H, M, D]$ and log-sum-exp $[B, H, M]$, graphs in the batch's order;
        an empty graph has the state of no points.

    Raises:
        ValueError: If the shapes do not agree.
    """
    _check(q, k, batch, v)
    value, lse = empty_state(q.expand(batch.num_graphs, *q.shape), v)
    if prefers_tied(q[None], k, v, scale):
        graphs = torch.tensor(batch.sequence, device=q.device)
        state = tied_encode(q[None], k, v, batch.tasks, scale)
        return LatentState(
            value.index_copy(0, graphs, state.value),
            lse.index_copy(0, graphs, state.lse),
        )
    for group, k_block, v_block in zip(
        batch.groups, batch.split(k), batch.split(v), strict=True
    ):
        state = flare_encode(
            q,
            _heads_first(k_block),
            _heads_first(v_block),
            scale=scale,
            mask=group.mask,
        )
        graphs = torch.tensor(group.graphs, device=q.device)
        value = value.index_copy(0, graphs, state.value)
        lse = lse.index_copy(0, graphs, state.lse)
    return LatentState(value, lse)


def ragged_flare_weights(
    q: Tensor, k: Tensor, batch: PointBatch, *, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    r"""`naive_flare_weights` within each graph of a batch.

    Args:
        q: Latent queries.
        k: Keys of the points, in the order of the layout.
        batch: The layout.
        scale: Factor on the scores.

    Shapes:
        - `q`: $[H, M, D]$
        - `k`: $[N, H, D]$

    Returns:
        Gather and scatter weights, both $[N, H, M]$.
    """
    gathers, scatters = [], []
    for group, block in zip(batch.groups, batch.split(k), strict=True):
        gather, scatter = naive_flare_weights(
            q, _heads_first(block), scale=scale, mask=group.mask
        )
        gathers.append(gather.permute(0, 3, 1, 2))  # [B, n, H, M]
        scatters.append(_heads_first(scatter))
    if not gathers:
        nothing = k.new_empty(0, *q.shape[:2])
        return nothing, nothing
    return batch.join(gathers), batch.join(scatters)


def ragged_flare_decode(
    q: Tensor, k: Tensor, z: Tensor, batch: PointBatch, *, scale: float = 1.0
) -> Tensor:
    r"""Decode the state of each graph at that graph's points.

    Args:
        q: Latent queries.
        k: Keys of the points to decode at, in the order of the layout.
        z: Latent values, one set a graph.
        batch: The layout of `k`.
        scale: Factor on the scores.

    Shapes:
        - `q`: $[H, M, D]$
        - `k`: $[N, H, D]$
        - `z`: $[B, H, M, D]$

    Returns:
        $[N, H, D]$

    Raises:
        ValueError: If the shapes do not agree.
    """
    _check(q, k, batch, None, z)
    if not batch.groups:
        return k.new_empty(*k.shape[:-1], z.size(-1))
    if prefers_tied(q[None], k, z, scale):
        return tied_decode(q[None], k, z[batch.sequence], batch.tasks, scale)
    return batch.join(
        [
            _heads_first(
                flare_decode(q, _heads_first(block), z[list(group.graphs)], scale=scale)
            )
            for group, block in zip(batch.groups, batch.split(k), strict=True)
        ]
    )
