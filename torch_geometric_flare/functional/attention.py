"""FLARE attention over dense point sets: gather into latents, scatter back."""

import torch
from torch import Tensor

from torch_geometric_flare.functional.encode import empty_state, encode
from torch_geometric_flare.functional.fused import fused_attention
from torch_geometric_flare.functional.state import LatentState
from torch_geometric_flare.functional.tasks import Tasks
from torch_geometric_flare.functional.tied import (
    prefers_tied,
    tied_attention,
    tied_decode,
)


def _check(q: Tensor, k: Tensor, v: Tensor | None, mask: Tensor | None) -> Tensor:
    """Validate shapes and give q the rank of k."""
    if k.dim() != 4 or q.dim() not in (3, 4):
        raise ValueError(
            f"q has shape {tuple(q.shape)} and k {tuple(k.shape)}: expected "
            "[H, M, D] or [B, H, M, D], and [B, H, N, D]"
        )
    if q.dim() == 3:
        q = q.expand(k.size(0), *q.shape)
    if q.size(0) != k.size(0) or q.size(1) != k.size(1) or q.size(3) != k.size(3):
        raise ValueError(
            f"q has shape {tuple(q.shape)} and k {tuple(k.shape)}: they must agree "
            "in graphs, heads and head width"
        )
    if v is not None and v.shape[:-1] != k.shape[:-1]:
        raise ValueError(
            f"v has shape {tuple(v.shape)}, expected {tuple(k.shape[:-1])} + (width,), "
            "one value for each key"
        )
    if mask is not None and (
        mask.dtype != torch.bool or mask.shape != (k.size(0), k.size(2))
    ):
        raise ValueError(
            f"mask is {mask.dtype} of shape {tuple(mask.shape)}, expected torch.bool "
            f"of shape {(k.size(0), k.size(2))}, True where a point is real"
        )
    return q


def flare_encode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float = 1.0,
    mask: Tensor | None = None,
) -> LatentState:
    r"""Gather points into latents, $Z = \mathrm{softmax}_N(s\,QK^\top)V$.

    The only step of FLARE that mixes points. Scores are formed in blocks and are
    recomputed in backward, so memory is linear in $N$.

    Args:
        q: Latent queries.
        k: Keys of the points.
        v: Values of the points.
        scale: Factor $s$ on the scores.
        mask: True where a point is real; `None` where all are.

    Shapes:
        - `q`: $[H, M, D]$ or $[B, H, M, D]$
        - `k`, `v`: $[B, H, N, D]$; $N$ may be zero
        - `mask`: $[B, N]$

    Returns:
        The state: value $[B, H, M, D]$ and log-sum-exp $[B, H, M]$, in float32 at
        least. Both may be differentiated, and so may states merged from them.

    Raises:
        ValueError: If the shapes do not agree.

    Source:
        [arXiv 2508.12594](https://arxiv.org/abs/2508.12594), Section 3.
    """
    q = _check(q, k, v, mask)
    return encode(q, k, v, mask, scale)


def flare_decode(q: Tensor, k: Tensor, z: Tensor, *, scale: float = 1.0) -> Tensor:
    r"""Scatter latents to points, $Y = \mathrm{softmax}_M(s\,KQ^\top)Z$.

    Args:
        q: Latent queries, the same as in `flare_encode`.
        k: Keys of the points to decode at.
        z: Latent values, `LatentState.value`.
        scale: Factor $s$ on the scores.

    Shapes:
        - `q`: $[H, M, D]$ or $[B, H, M, D]$
        - `k`: $[B, H, N, D]$
        - `z`: $[B, H, M, D]$

    Returns:
        $[B, H, N, D]$

    Raises:
        ValueError: If the shapes do not agree.
    """
    q = _check(q, k, None, None)
    if z.shape[:-1] != q.shape[:-1]:
        raise ValueError(
            f"z has shape {tuple(z.shape)}, expected {tuple(q.shape[:-1])} + (width,), "
            "one value for each latent"
        )
    return _decode(q, k, z.to(q.dtype), scale)


def _rows(x: Tensor) -> Tensor:
    """[B, H, N, D] as [B * N, H, D], which is how layers lay it out."""
    return x.transpose(1, 2).flatten(0, 1)


def _decode(q: Tensor, k: Tensor, z: Tensor, scale: float) -> Tensor:
    if prefers_tied(q, k.transpose(1, 2), z, scale):
        tasks = Tasks.from_sizes([k.size(2)] * k.size(0))
        y = tied_decode(q, _rows(k), z, tasks, scale)
        return y.view(k.size(0), -1, *y.shape[1:]).transpose(1, 2)
    return fused_attention(k, q, z, None, scale)


def flare_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float = 1.0,
    mask: Tensor | None = None,
    chunk_size: int | None = None,
) -> Tensor:
    r"""FLARE attention: gather points into latents, scatter them back.

    $$Y = \mathrm{softmax}_M(s\,KQ^\top)\,\mathrm{softmax}_N(s\,QK^\top)\,V$$

    A global operator of rank at most $M$ at $O(NM)$ cost, as two fused attention
    calls, or as one kernel that shares their scores where that is quicker. May be
    differentiated any number of times.

    Args:
        q: Latent queries.
        k: Keys of the points.
        v: Values of the points.
        scale: Factor $s$ on the scores, both times.
        mask: True where a point is real; `None` where all are. Masked points
            contribute to no other point; their own rows hold unspecified values.
        chunk_size: Encode and decode this many points at a time; the result is the
            same. `None` takes all at once.

    Shapes:
        - `q`: $[H, M, D]$ or $[B, H, M, D]$
        - `k`, `v`: $[B, H, N, D]$
        - `mask`: $[B, N]$

    Returns:
        $[B, H, N, D]$

    Raises:
        ValueError: If the shapes do not agree or `chunk_size` is not positive.

    Source:
        [arXiv 2508.12594](https://arxiv.org/abs/2508.12594), Section 3.

    Examples:
        >>> q, k, v = torch.randn(8, 64, 8), *torch.randn(2, 1, 8, 1000, 8)
        >>> flare_attention(q, k, v).shape
        torch.Size([1, 8, 1000, 8])
    """
    q = _check(q, k, v, mask)
    if chunk_size is None:
        if mask is None and prefers_tied(q, k.transpose(1, 2), v, scale):
            tasks = Tasks.from_sizes([k.size(2)] * k.size(0))
            y = tied_attention(q, _rows(k), _rows(v), tasks, scale)
            return y.view(k.size(0), -1, *y.shape[1:]).transpose(1, 2)
        keys = None if mask is None else mask[:, None, None, :]
        z = fused_attention(q, k, v, keys, scale)
        return fused_attention(k, q, z, None, scale)
    if chunk_size <= 0:
        raise ValueError(f"chunk_size is {chunk_size}, expected a positive number")
    chunks = k.split(chunk_size, dim=2)
    masks = [None] * len(chunks) if mask is None else mask.split(chunk_size, dim=1)
    state = empty_state(q, v)
    for k_chunk, v_chunk, m_chunk in zip(
        chunks, v.split(chunk_size, dim=2), masks, strict=True
    ):
        state = state.merge(encode(q, k_chunk, v_chunk, m_chunk, scale))
    z = state.value.to(v.dtype)
    return torch.cat([_decode(q, c, z, scale) for c in chunks], dim=2)
