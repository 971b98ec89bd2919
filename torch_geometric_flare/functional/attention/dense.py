"""FLARE attention over dense point sets: gather into latents, scatter back."""

import torch
from torch import Tensor

from torch_geometric_flare._arguments import brief
from torch_geometric_flare.functional.attention.choice import compute
from torch_geometric_flare.functional.checks import (
    check_given,
    check_scale,
    check_weight,
)
from torch_geometric_flare.functional.state import SoftmaxState


def check_dense(
    q: Tensor,
    k: Tensor,
    v: Tensor | None,
    mask: Tensor | None,
    scale: float,
    weight: Tensor | None = None,
) -> Tensor:
    """Validate the arguments; return q with the rank of k."""
    check_scale(scale)
    check_given(q=q, k=k)
    if v is not None:
        check_given(k=k, v=v)
    if mask is not None and not isinstance(mask, Tensor):
        raise TypeError(f"mask is {brief(mask)}, expected a torch.Tensor or None")
    if k.dim() != 4 or q.dim() not in (3, 4):
        raise ValueError(
            f"q has shape {tuple(q.shape)} and k {tuple(k.shape)}: expected "
            "[H, M, D] or [B, H, M, D], and [B, H, N, D]"
        )
    if q.dim() == 3:
        q = q.expand(k.size(0), *q.shape)
    if q.size(0) != k.size(0) or q.size(1) != k.size(1) or q.size(3) != k.size(3):
        raise ValueError(
            f"q has shape {tuple(q.shape)} and k {tuple(k.shape)}: they must have the "
            "same graphs, heads and head width"
        )
    if 0 in (k.size(1), k.size(3)):
        raise ValueError(
            f"k has shape {tuple(k.shape)}, expected [B, H, N, D] with at least one "
            "head and one channel"
        )
    if v is not None and v.shape[:-1] != k.shape[:-1]:
        raise ValueError(
            f"v has shape {tuple(v.shape)}, expected {tuple(k.shape[:-1])} + (width,), "
            "one value per key"
        )
    if mask is not None and (
        mask.dtype != torch.bool or mask.shape != (k.size(0), k.size(2))
    ):
        raise ValueError(
            f"mask is {mask.dtype} of shape {tuple(mask.shape)}, expected torch.bool "
            f"of shape {(k.size(0), k.size(2))}, True for real points"
        )
    if weight is not None:
        check_weight(weight, (k.size(0), k.size(2)), k.device)
    return q


def flare_encode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float = 1.0,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> SoftmaxState:
    r"""Gather points into latents, $Z = \mathrm{softmax}_N(s\,QK^\top + \log a)V$.

    This is the only step of FLARE that mixes points. Scores are computed in blocks and
    recomputed in backward, so memory is linear in $N$.

    Args:
        q: Latent queries.
        k: Keys of the points.
        v: Values of the points.
        scale: Scaling factor $s$ of the scores.
        mask: True for real points; `None` without padding.
        weight: Weight $a$ of each point, such as its share of a surface; `None` for
            equal weights.

    Shapes:
        - `q`: $[H, M, D]$ or $[B, H, M, D]$
        - `k`, `v`: $[B, H, N, D]$; $N$ may be zero
        - `mask`, `weight`: $[B, N]$

    Returns:
        The state: value $[B, H, M, D]$ and log-sum-exp $[B, H, M]$, in at least
        float32. Both are differentiable, also after merging.

    Raises:
        ValueError: If the shapes do not agree, or there are no heads or no channels.

    Source:
        [arXiv 2508.12594](https://arxiv.org/abs/2508.12594), Section 3.
    """
    check_given(v=v)
    q = check_dense(q, k, v, mask, scale, weight)
    state: SoftmaxState = compute("encode", q, k, v, scale, mask=mask, weight=weight)
    return state


def flare_decode(q: Tensor, k: Tensor, z: Tensor, *, scale: float = 1.0) -> Tensor:
    r"""Scatter latents to points, $Y = \mathrm{softmax}_M(s\,KQ^\top)Z$.

    Args:
        q: Latent queries, the same as in `flare_encode`.
        k: Keys of the points to decode at.
        z: Latent values, `SoftmaxState.value`.
        scale: Scaling factor $s$ of the scores.

    Shapes:
        - `q`: $[H, M, D]$ or $[B, H, M, D]$
        - `k`: $[B, H, N, D]$
        - `z`: $[B, H, M, D]$

    Returns:
        $[B, H, N, D]$

    Raises:
        ValueError: If the shapes do not agree, or there are no heads or no channels.
    """
    q = check_dense(q, k, None, None, scale)
    check_given(z=z)
    z = z.to(q.dtype)  # states have at least float32
    check_given(q=q, z=z)
    if z.shape[:-1] != q.shape[:-1]:
        raise ValueError(
            f"z has shape {tuple(z.shape)}, expected {tuple(q.shape[:-1])} + (width,), "
            "one value per latent"
        )
    y: Tensor = compute("decode", q, k, z, scale)
    return y


def flare_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float = 1.0,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Compute FLARE attention: gather points into latents and scatter them back.

    $$Y = \mathrm{softmax}_M(s\,KQ^\top)\,\mathrm{softmax}_N(s\,QK^\top)\,V$$

    This is a global operator of rank at most $M$ at $O(NM)$ cost. Supports derivatives
    of any order.

    Args:
        q: Latent queries.
        k: Keys of the points.
        v: Values of the points.
        scale: Scaling factor $s$ of the scores in both steps.
        mask: True for real points; `None` without padding. Masked points do not
            contribute to other points; their output rows are undefined.
        weight: Nonnegative weight of each point, such as its share of a surface. Its
            logarithm is added to the scores of the first softmax. `None` for equal
            weights.

    Shapes:
        - `q`: $[H, M, D]$ or $[B, H, M, D]$
        - `k`, `v`: $[B, H, N, D]$
        - `mask`, `weight`: $[B, N]$

    Returns:
        $[B, H, N, D]$

    Raises:
        ValueError: If the shapes do not agree, or there are no heads or no channels.

    Source:
        [arXiv 2508.12594](https://arxiv.org/abs/2508.12594), Section 3.

    Examples:
        >>> q, k, v = torch.randn(8, 64, 8), *torch.randn(2, 1, 8, 1000, 8)
        >>> flare_attention(q, k, v).shape
        torch.Size([1, 8, 1000, 8])
    """
    check_given(v=v)
    q = check_dense(q, k, v, mask, scale, weight)
    y: Tensor = compute("attention", q, k, v, scale, mask=mask, weight=weight)
    return y
