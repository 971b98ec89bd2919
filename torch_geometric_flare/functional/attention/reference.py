r"""Reference implementations of attention with explicit scores.

All other backends compute these formulas in other ways. The formulas consist of
differentiable operations and store all scores, so memory grows with $NM$.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torch_geometric_flare.functional.attention.backend import (
    AttentionCall,
    Backend,
    additive_mask,
    encode_on_blocks,
    on_blocks,
)
from torch_geometric_flare.functional.checks import check_given, check_scale
from torch_geometric_flare.functional.state import SoftmaxState, state_dtype
from torch_geometric_flare.functional.torch_internals import no_autocast


def attention_scores(q: Tensor, k: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    r"""Return scores $s\,QK^\top$, minus infinity where `mask` is false.

    Args:
        q: Queries.
        k: Keys.
        mask: True where a query attends to a key, or numbers to add to the scores, as
            in `scaled_dot_product_attention`; `None` for no mask.
        scale: Scaling factor $s$.

    Shapes:
        - `q`: $[B, H, N_q, D]$ or $[H, N_q, D]$
        - `k`: $[B, H, N_k, D]$
        - `mask`: broadcastable to $[B, H, N_q, N_k]$

    Returns:
        $[B, H, N_q, N_k]$
    """
    scores = scale * q @ k.mT
    if mask is None:
        return scores
    if mask.dtype != torch.bool:
        return scores + mask
    return scores.masked_fill(~mask, -torch.inf)


def seen_keys(mask: Tensor) -> Tensor:
    """Convert a mask of `attention_scores` to a boolean mask."""
    return mask if mask.dtype == torch.bool else mask > -torch.inf


def softmax_weights(q: Tensor, k: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Return the softmax of `attention_scores` over keys; zero for fully masked rows.

    Args:
        q: Queries.
        k: Keys.
        mask: As in `attention_scores`.
        scale: Scaling factor of the scores.

    Shapes:
        - as in `attention_scores`

    Returns:
        $[B, H, N_q, N_k]$
    """
    if mask is None:
        return attention_scores(q, k, None, scale).softmax(dim=-1)
    # Finite scores, because the softmax of a fully masked row and its gradient are NaN.
    seen = seen_keys(mask)
    scores = attention_scores(q, k, mask, scale)
    scores = scores.masked_fill(~seen, torch.finfo(scores.dtype).min)
    return (scores.softmax(dim=-1) * seen).to(q.dtype)


def softmax_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    """Compute `scaled_dot_product_attention` with explicit scores.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        mask: As in `attention_scores`.
        scale: Scaling factor of the scores.

    Shapes:
        - `v`: $[B, H, N_k, D]$; the others as in `attention_scores`

    Returns:
        $[B, H, N_q, D]$; zero if all keys of a query are masked.
    """
    return softmax_weights(q, k, mask, scale) @ v


def key_mask(mask: Tensor | None) -> Tensor | None:
    """Broadcast a mask of points, [B, N], over heads and latents."""
    return None if mask is None else mask[:, None, None, :]


def reference_encode(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> SoftmaxState:
    r"""Return the state $(\mathrm{softmax}_N(s\,QK^\top)V, \mathrm{lse})$.

    Args:
        q: Latent queries.
        k: Keys of the points.
        v: Values of the points.
        mask: True for real points, or the logarithms of weights, or `None`.
        scale: Scaling factor of the scores.

    Shapes:
        - `q`: $[B, H, M, D]$
        - `k`, `v`: $[B, H, N, D]$; $N$ may be zero
        - `mask`: $[B, N]$

    Returns:
        The state of each graph, in at least float32.
    """
    dtype = state_dtype(q.dtype)
    if k.size(-2) == 0:
        like = q.new_empty(0, dtype=dtype)
        return SoftmaxState.empty(*q.shape[:-1], v.size(-1), like=like)
    q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    keys = key_mask(mask)
    return SoftmaxState(
        softmax_attention(q, k, v, keys, scale),
        attention_scores(q, k, keys, scale).logsumexp(dim=-1),
    )


def reference_decode(q: Tensor, k: Tensor, z: Tensor, scale: float) -> Tensor:
    r"""Return $\mathrm{softmax}_M(s\,KQ^\top)Z$.

    Args:
        q: Latent queries.
        k: Keys of the points.
        z: Latent values.
        scale: Scaling factor of the scores.

    Shapes:
        - `q`, `z`: $[B, H, M, D]$
        - `k`: $[B, H, N, D]$

    Returns:
        $[B, H, N, D]$
    """
    return softmax_attention(k, q, z, None, scale)


def reference_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    """Encode, then decode; shapes as in `reference_encode`."""
    z = softmax_attention(q, k, v, key_mask(mask), scale)
    return reference_decode(q, k, z, scale)


def reference_flare_weights(
    q: Tensor,
    k: Tensor,
    *,
    scale: float = 1.0,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Return both attention matrices of FLARE, from the scores $S = s\,QK^\top$.

    Args:
        q: Latent queries.
        k: Keys of the points.
        scale: Scaling factor $s$ of the scores.
        mask: True for real points; `None` without padding.
        weight: Weight of each point; `None` for equal weights.

    Shapes:
        - `q`: $[H, M, D]$ or $[B, H, M, D]$
        - `k`: $[B, H, N, D]$
        - `mask`, `weight`: $[B, N]$

    Returns:
        The gather weights $\mathrm{softmax}_N(S + \log a)$ of shape $[B, H, M, N]$, for
        points of weight $a$, and the scatter weights $\mathrm{softmax}_M(S^\top)$ of
        shape $[B, H, N, M]$. Rows without points are zero.
    """
    check_given(q=q, k=k)
    check_scale(scale)
    seen = additive_mask(mask, None if weight is None else weight.log())
    gather = softmax_weights(q, k, key_mask(seen), scale)
    return gather, softmax_weights(k, q, None, scale)


def reference_flare_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float = 1.0,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Compute FLARE attention explicitly, $Y = (W_\text{dec} W_\text{enc}) V$.

    Forms the $N \times N$ matrix. Use it only for tests and small point clouds.

    Args:
        q: Latent queries.
        k: Keys of the points.
        v: Values of the points.
        scale: Scaling factor of the scores.
        mask: True for real points; `None` without padding.
        weight: Weight of each point; `None` for equal weights.

    Shapes:
        - `q`: $[H, M, D]$ or $[B, H, M, D]$
        - `k`, `v`: $[B, H, N, D]$
        - `mask`, `weight`: $[B, N]$

    Returns:
        $[B, H, N, D]$, equal to `flare_attention`.

    Source:
        [arXiv 2508.12594](https://arxiv.org/abs/2508.12594), Section 3.
    """
    check_given(q=q, k=k, v=v)
    gather, scatter = reference_flare_weights(
        q, k, scale=scale, mask=mask, weight=weight
    )
    return (scatter @ gather) @ v


def reference_causal_flare_attention(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float = 1.0
) -> Tensor:
    r"""Compute causal FLARE attention explicitly: step $i$ sees steps $j \le i$.

    $$y_i = \sum_m \mathrm{softmax}_m(S_{mi}) \sum_{j \le i}
      \mathrm{softmax}_{j \le i}(S_{mj})\, v_j, \qquad S = s\,QK^\top$$

    Forms $M \times N \times N$ numbers. Use it only for tests and short sequences.

    Args:
        q: Latent queries.
        k: Keys of the steps, in order.
        v: Values of the steps.
        scale: Scaling factor $s$ of the scores.

    Shapes:
        - `q`: $[H, M, D]$ or $[B, H, M, D]$
        - `k`, `v`: $[B, H, N, D]$

    Returns:
        $[B, H, N, D]$, equal to `causal_flare_attention`.
    """
    check_given(q=q, k=k, v=v)
    check_scale(scale)
    scores = attention_scores(q, k, None, scale)  # [B, H, M, N]
    later = torch.ones_like(scores[0, 0, 0].diag(), dtype=torch.bool).triu(1)
    seen = scores.unsqueeze(-2).masked_fill(later, -torch.inf)  # [B, H, M, N, N]
    gather = seen.softmax(dim=-1)
    return torch.einsum("bhmi,bhmij,bhjd->bhid", scores.softmax(dim=2), gather, v)


def reference_by_graph(
    function: Callable[..., Tensor],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sizes: Sequence[int],
    scale: float,
    log_weight: Tensor | None = None,
) -> list[Tensor]:
    r"""Apply a formula separately to each of several consecutive graphs.

    Args:
        function: Called as `function(q, k, v, mask, scale)` with dense batches of one
            graph.
        q: Latent queries of each graph, or shared by all graphs.
        k: Keys of the points.
        v: Values of the points, or latent values of each graph.
        sizes: Number of points of each graph.
        scale: Scaling factor of the scores.
        log_weight: Logarithm of each point's weight.

    Shapes:
        - `q`: $[B, H, M, D]$ or $[1, H, M, D]$
        - `k`: $[N, H, D]$
        - `v`: $[N, H, D]$ or $[B, H, M, D]$
        - `log_weight`: $[N]$

    Returns:
        The result of `function` for each graph.
    """

    def points(x: Tensor) -> list[Tensor]:
        return [part.transpose(0, 1)[None] for part in x.split(list(sizes))]

    latents = [q] * len(sizes) if q.size(0) == 1 else q.split(1)
    values = points(v) if v.dim() == 3 else v.split(1)
    masks: list[Tensor | None] = [None] * len(sizes)
    if log_weight is not None:
        masks = [part[None] for part in log_weight.split(list(sizes))]
    graphs = zip(latents, points(k), values, masks, strict=True)
    return [function(*graph, scale) for graph in graphs]


def _attention(
    call: AttentionCall, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
) -> Tensor:
    return reference_attention(q, k, v, mask, call.scale)


def _encode(
    call: AttentionCall, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
) -> SoftmaxState:
    with no_autocast(call.device.type):
        return reference_encode(q, k, v, mask, call.scale)


def _decode(
    call: AttentionCall, q: Tensor, k: Tensor, z: Tensor, mask: Tensor | None
) -> Tensor:
    return reference_decode(q, k, z, call.scale)


def _self_attention(
    call: AttentionCall, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
) -> Tensor:
    return softmax_attention(q, k, v, key_mask(mask), call.scale)


REFERENCE = Backend(
    "reference",
    lambda call: None,
    on_blocks(_attention),
    encode_on_blocks(_encode),
    on_blocks(_decode),
    on_blocks(_self_attention),
)
