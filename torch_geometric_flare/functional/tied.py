r"""FLARE attention on the CPU from one exponential of the shared scores.

Gathering and scattering are softmaxes of one score matrix, over its two axes. With
$E = \exp(s\,KQ^\top)$, here `[H, n, M]` for a block of points:

- forward: $Z = E^\top V / E^\top 1$ and $Y = r \circ E Z$ with $r = 1 / E 1$;
- backward: $Y' = r \circ \partial Y$, $Z' = E^\top Y' / E^\top 1$, and
  $\partial S = E \circ (Y' Z^\top - \langle Y', Y\rangle + V Z'^\top
  - \langle Z', Z\rangle)$, from which $\partial K = s\,\partial S\,Q$,
  $\partial Q = s\,\partial S^\top K$ and $\partial V = E Z'$.

Two passes over the points in each direction; E is made again in every pass, and never
lies in memory. No maximum is subtracted, so the scores must be small; `in_range` says
whether they are for certain.
"""

import math
from typing import Any

import torch
from torch import Tensor

from torch_geometric_flare.functional.fused import (
    differentiable_gradients,
    is_traced,
    softmax_attention,
)
from torch_geometric_flare.functional.tied_passes import (
    Gathered,
    Scattered,
    gather,
    gradients,
    scatter,
)
from torch_geometric_flare.functional.vectors import is_available

# Measured by `examples/benchmarks/tied.py`: the passes are quicker from some 300
# points on. Wider heads take long to compile, and gain less.
_LEAST_POINTS = 512
_LARGEST_WIDTH = 64

# With |score| below this, sums over 10^8 points, their reciprocals and products with
# gradients of any usual size are normal numbers.
_LARGEST_SCORE = {torch.float32: 40.0, torch.float64: 300.0}


def prefers_tied(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> bool:
    """Whether the passes apply, and are the quicker way for these shapes.

    Args:
        q: Latent queries, $[B, H, M, D]$.
        k: Keys, $[B, H, N, D]$.
        v: Values of the points or of the latents, $[B, H, *, D]$.
        mask: A mask over the keys.
        scale: Factor on the scores.
    """
    return (
        not is_traced()
        and k.device.type == "cpu"
        and k.dtype in _LARGEST_SCORE
        and q.dtype == k.dtype == v.dtype
        and mask is None
        and v.size(-1) == k.size(-1)
        and k.size(2) >= _LEAST_POINTS
        and k.size(3) <= _LARGEST_WIDTH
        and not torch.is_autocast_enabled("cpu")
        and is_available()
        and in_range(q, k, scale)
    )


def in_range(q: Tensor, k: Tensor, scale: float) -> bool:
    """Whether all scores are small enough, by the Cauchy-Schwarz inequality.

    Args:
        q: Latent queries.
        k: Keys.
        scale: Factor on the scores.

    Shapes:
        - `q`: $[B, H, M, D]$
        - `k`: $[B, H, N, D]$
    """
    if k.size(2) == 0:
        return False
    largest = _LARGEST_SCORE[k.dtype]
    longest_q = torch.linalg.vector_norm(q.detach(), dim=-1).amax(-1)  # [B, H]
    # The largest component bounds a length, in one quick pass.
    low, high = torch.aminmax(k.detach())
    length = max(-float(low), float(high)) * k.size(-1) ** 0.5
    if abs(scale) * float(longest_q.amax()) * length <= largest:  # false for NaN
        return True
    longest_k = torch.linalg.vector_norm(k.detach(), dim=-1).amax(-1)
    return abs(scale) * float((longest_q * longest_k).amax()) <= largest


def twin(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """The same function by explicit scores, differentiable any number of times."""
    z = softmax_attention(q, k, v, None, scale)
    return softmax_attention(k, q, z, None, scale)


def hat(q: Tensor, scale: float) -> Tensor:
    """Latents as the passes want them: scores are then exponents of two."""
    return q * (scale * math.log2(math.e))


def _by_point(x: Tensor) -> Tensor:
    """[B, H, N, D] as [B, N, H, D], the numbers of a head side by side."""
    x = x.transpose(1, 2)
    return x if x.stride(-1) == 1 else x.contiguous()


class _Tied(torch.autograd.Function):
    """The passes, graph by graph; a backward with a graph falls back to the twin."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        value, weight = encode_sums(q, k, v, scale)
        z = value / weight.unsqueeze(-1)
        y, r = _decode_averages(q, k, z, scale)
        # Nothing but saved tensors: checkpointing then frees all of it.
        ctx.save_for_backward(q, k, v, y, r, z, weight)
        ctx.scale = scale
        return y.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, y, r, z, weight = ctx.saved_tensors
        if torch.is_grad_enabled():

            def again(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                return twin(q, k, v, ctx.scale)

            wanted = ctx.needs_input_grad[:3]
            return *differentiable_gradients(again, (q, k, v), wanted, grads[0]), None
        k, v, g = _by_point(k), _by_point(v), _by_point(grads[0])
        grad_q, grad_k, grad_v = _empty(q, k, v)
        for i, latents in enumerate(hat(q, ctx.scale)):
            grad_sums = gather(latents, k[i], g[i], r[i]).mT / weight[i].unsqueeze(-1)
            offset = -(grad_sums * z[i]).sum(dim=-1)
            grad_q[i] = gradients(
                latents,
                k[i],
                grad_k[i],
                (Gathered(v[i], grad_sums, offset), grad_v[i]),
                Scattered(g[i], y[i], r[i], z[i]),
            )
        return (
            grad_q.mul_(ctx.scale),
            grad_k.transpose(1, 2),
            grad_v.transpose(1, 2),
            None,
        )


class _Decode(torch.autograd.Function):
    """The pass that scatters; a backward with a graph falls back to explicit scores."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, z: Tensor, scale: float) -> Tensor:
        y, r = _decode_averages(q, k, z, scale)
        ctx.save_for_backward(q, k, z, y, r)
        ctx.scale = scale
        return y.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, z, y, r = ctx.saved_tensors
        if torch.is_grad_enabled():

            def again(q: Tensor, k: Tensor, z: Tensor) -> Tensor:
                return softmax_attention(k, q, z, None, ctx.scale)

            wanted = ctx.needs_input_grad[:3]
            return *differentiable_gradients(again, (q, k, z), wanted, grads[0]), None
        k, g = _by_point(k), _by_point(grads[0])
        grad_q, grad_k, grad_z = _empty(q, k, z)
        for i, latents in enumerate(hat(q, ctx.scale)):
            grad_z[i] = gather(latents, k[i], g[i], r[i]).mT
            grad_q[i] = gradients(
                latents, k[i], grad_k[i], decoded=Scattered(g[i], y[i], r[i], z[i])
            )
        return grad_q.mul_(ctx.scale), grad_k.transpose(1, 2), grad_z, None


def _empty(*tensors: Tensor) -> list[Tensor]:
    """Tensors for gradients, contiguous."""
    return [t.new_empty(t.shape) for t in tensors]


def _decode_averages(
    q: Tensor, k: Tensor, z: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Output [B, N, H, D] and reciprocal sums [B, H, N'], from keys [B, H, N, D]."""
    k = _by_point(k)
    y = k.new_empty(k.shape)
    rs = [scatter(latents, k[i], z[i], y[i]) for i, latents in enumerate(hat(q, scale))]
    return y, torch.stack(rs)


def encode_sums(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    r"""$E^\top V$ and $E^\top 1$.

    Args:
        q: Latent queries.
        k: Keys of the points, at least one; `in_range` must hold.
        v: Values of the points, as wide as the keys.
        scale: Factor on the scores.

    Shapes:
        - `q`: $[B, H, M, D]$
        - `k`, `v`: $[B, H, N, D]$

    Returns:
        $[B, H, M, D]$ and $[B, H, M]$.
    """
    width = q.size(-1)
    k, v = _by_point(k), _by_point(v)
    sums = torch.stack(
        [gather(latents, k[i], v[i]) for i, latents in enumerate(hat(q, scale))]
    )
    return sums[:, :, :width].mT, sums[:, :, width]


def encode_gradients(
    q: Tensor, k: Tensor, v: Tensor, grad: Tensor, offset: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The backward of `encode_sums`, from the gradients of both sums."""
    k, v = _by_point(k), _by_point(v)
    grad_q, grad_k, grad_v = _empty(q, k, v)
    for i, latents in enumerate(hat(q, scale)):
        encoded = Gathered(v[i], grad[i], offset[i])
        grad_q[i] = gradients(latents, k[i], grad_k[i], (encoded, grad_v[i]))
    return grad_q.mul_(scale), grad_k.transpose(1, 2), grad_v.transpose(1, 2)


def tied_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """FLARE attention by shared exponentials; `in_range` must hold.

    Args:
        q: Latent queries.
        k: Keys of the points, at least one.
        v: Values of the points, as wide as the keys.
        scale: Factor on the scores.

    Shapes:
        - `q`: $[B, H, M, D]$
        - `k`, `v`: $[B, H, N, D]$

    Returns:
        $[B, H, N, D]$. May be differentiated any number of times.
    """
    out: Tensor = _Tied.apply(q, k, v, scale)  # type: ignore[no-untyped-call]
    return out


def tied_decode(q: Tensor, k: Tensor, z: Tensor, scale: float) -> Tensor:
    """Decode in one pass; `in_range` must hold.

    Args:
        q: Latent queries.
        k: Keys of the points, at least one.
        z: Latent values, as wide as the keys.
        scale: Factor on the scores.

    Shapes:
        - `q`, `z`: $[B, H, M, D]$
        - `k`: $[B, H, N, D]$

    Returns:
        $[B, H, N, D]$. May be differentiated any number of times.
    """
    out: Tensor = _Decode.apply(q, k, z, scale)  # type: ignore[no-untyped-call]
    return out
