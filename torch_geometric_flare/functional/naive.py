"""The definition of FLARE attention, dense: the twin of every fast path."""

import torch
from torch import Tensor


def naive_flare_weights(
    q: Tensor, k: Tensor, *, scale: float = 1.0, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""Both attention matrices of FLARE, from one score matrix $S = s\,QK^\top$.

    Args:
        q: Latent queries.
        k: Keys of the points.
        scale: Factor $s$ on the scores.
        mask: True where a point is real; `None` where all are.

    Shapes:
        - `q`: $[H, M, D]$ or $[B, H, M, D]$
        - `k`: $[B, H, N, D]$
        - `mask`: $[B, N]$

    Returns:
        The gather weights $\mathrm{softmax}_N(S)$ of shape $[B, H, M, N]$ and the
        scatter weights $\mathrm{softmax}_M(S^\top)$ of shape $[B, H, N, M]$. A row
        over no points is zero.
    """
    scores = scale * q @ k.mT  # [B, H, M, N]
    if mask is None:
        gather = scores.softmax(dim=-1)
    else:
        keep = mask[:, None, None, :]
        filled = scores.masked_fill(~keep, torch.finfo(scores.dtype).min)
        gather = filled.softmax(dim=-1) * keep
    return gather, scores.mT.softmax(dim=-1)


def naive_flare_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    r"""FLARE attention by its definition, $Y = (W_\text{dec} W_\text{enc}) V$.

    Forms the $N \times N$ matrix: for tests and for small point clouds only.

    Args:
        q: Latent queries.
        k: Keys of the points.
        v: Values of the points.
        scale: Factor on the scores.
        mask: True where a point is real; `None` where all are.

    Shapes:
        - `q`: $[H, M, D]$ or $[B, H, M, D]$
        - `k`, `v`: $[B, H, N, D]$
        - `mask`: $[B, N]$

    Returns:
        $[B, H, N, D]$, as `flare_attention`.

    Source:
        [arXiv 2508.12594](https://arxiv.org/abs/2508.12594), Section 3.
    """
    gather, scatter = naive_flare_weights(q, k, scale=scale, mask=mask)
    return (scatter @ gather) @ v
