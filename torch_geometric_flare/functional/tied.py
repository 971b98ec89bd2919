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
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_geometric_flare.functional.fused import (
    differentiable_gradients,
    is_plain,
    is_traced,
    needs_twin,
    side_by_side,
)
from torch_geometric_flare.functional.llvm import is_available
from torch_geometric_flare.functional.state import LatentState
from torch_geometric_flare.functional.tasks import Tasks
from torch_geometric_flare.functional.tied_explicit import (
    explicit_attention,
    explicit_decode,
    explicit_encode,
)
from torch_geometric_flare.functional.tied_passes import (
    Gathered,
    Scattered,
    gather,
    gradients,
    scatter,
)

# Measured by `examples/benchmarks/tied.py`: the passes are quicker from some 300
# points on. Wider heads take long to compile, and gain less.
_LEAST_POINTS = 512
_LARGEST_WIDTH = 64

# With |score| below this, sums over 10^8 points, their reciprocals and products with
# gradients from 1e-15 to 1e15 are normal numbers.
_LARGEST_SCORE = {torch.float32: 30.0, torch.float64: 300.0}


def prefers_tied(q: Tensor, k: Tensor, v: Tensor, scale: float) -> bool:
    """Whether the passes apply, and are the quicker way.

    Args:
        q: Latent queries.
        k: Keys of the points.
        v: Values of the points or of the latents.
        scale: Factor on the scores.

    Shapes:
        - `q`: $[*, H, M, D]$
        - `k`: $[*, H, D]$
        - `v`: $[*, D]$
    """
    return (
        not is_traced()
        and is_plain(q, k, v)
        and isinstance(scale, int | float)
        and k.dtype in _LARGEST_SCORE
        and q.dtype == k.dtype == v.dtype
        and v.size(-1) == k.size(-1)
        and k[..., 0, 0].numel() >= _LEAST_POINTS
        and k.size(-1) <= _LARGEST_WIDTH
        and not torch.is_autocast_enabled("cpu")
        and is_available()
        and in_range(q, k, scale)
    )


def in_range(q: Tensor, k: Tensor, scale: float) -> bool:
    """Whether all scores are small enough, by the Cauchy-Schwarz inequality.

    Args:
        q: Latent queries.
        k: Keys of the points.
        scale: Factor on the scores.

    Shapes:
        - `q`: $[*, H, M, D]$
        - `k`: $[*, H, D]$
    """
    if k.numel() == 0 or q.numel() == 0:
        return False
    q, k = q.detach(), k.detach()
    largest = _LARGEST_SCORE[k.dtype]
    # What the squares of small numbers lose by underflow.
    lost = (k.size(-1) * torch.finfo(k.dtype).tiny) ** 0.5
    longest_q = lost + torch.linalg.vector_norm(q, dim=-1).amax(dim=(0, 2))  # [H]
    # The largest component bounds a length, in one quick pass.
    low, high = torch.aminmax(k)
    length = max(-float(low), float(high)) * k.size(-1) ** 0.5
    if abs(scale) * float(longest_q.amax()) * length <= largest:  # false for NaN
        return True
    longest_k = lost + torch.linalg.vector_norm(k, dim=-1).flatten(0, -2).amax(dim=0)
    return abs(scale) * float((longest_q * longest_k).amax()) <= largest


def _with_graph(
    ctx: Any, function: Callable[..., Tensor], inputs: Sequence[Tensor], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """A backward that can itself be differentiated."""

    def again(*inputs: Tensor) -> Tensor:
        return function(*inputs, ctx.tasks, ctx.scale)

    wanted = ctx.needs_input_grad[:3]
    return *differentiable_gradients(again, inputs, wanted, grad), None, None


class _Tied(torch.autograd.Function):
    """The passes; a backward with a graph falls back to explicit scores."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, tasks: Tasks, scale: float
    ) -> Tensor:
        hat = _hat(q, scale)
        sums = gather(hat, k, v, tasks)
        weight = sums[:, :, -1]
        z = _mean(sums)
        y = _empty(k)
        r = scatter(hat, k, z, y, tasks)
        # Nothing but saved tensors: checkpointing then frees all of it.
        ctx.save_for_backward(q, k, v, y, r, z, weight)
        ctx.tasks, ctx.scale = tasks, scale
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, y, r, z, weight = ctx.saved_tensors
        tasks, scale = ctx.tasks, ctx.scale
        if needs_twin(*grads):
            return _with_graph(ctx, explicit_attention, (q, k, v), grads[0])
        hat, g = _hat(q, scale), side_by_side(grads[0])
        # Whoever keeps saved tensors elsewhere may bring them back in another layout.
        k, v, y, r = map(side_by_side, (k, v, y, r))
        grad_sums = gather(hat, k, g, tasks, r).mT / weight.unsqueeze(-1)
        offset = -(grad_sums * z).sum(dim=-1)
        grad_k, grad_v = (_empty(t) for t in (k, v))
        grad_q = gradients(
            hat,
            k,
            grad_k,
            tasks,
            (Gathered(v, grad_sums, offset), grad_v),
            Scattered(g, y, r, z),
        )
        return _total(grad_q, q, scale), grad_k, grad_v, None, None


class _Decode(torch.autograd.Function):
    """The pass that scatters; a backward with a graph falls back to explicit scores."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, z: Tensor, tasks: Tasks, scale: float
    ) -> Tensor:
        y = _empty(k)
        r = scatter(_hat(q, scale), k, z, y, tasks)
        ctx.save_for_backward(q, k, z, y, r)
        ctx.tasks, ctx.scale = tasks, scale
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, z, y, r = ctx.saved_tensors
        tasks, scale = ctx.tasks, ctx.scale
        if needs_twin(*grads):
            return _with_graph(ctx, explicit_decode, (q, k, z), grads[0])
        hat, g = _hat(q, scale), side_by_side(grads[0])
        k, y, r = map(side_by_side, (k, y, r))
        grad_z = gather(hat, k, g, tasks, r).mT
        grad_k = _empty(k)
        decoded = Scattered(g, y, r, z)
        grad_q = gradients(hat, k, grad_k, tasks, decoded=decoded)
        return _total(grad_q, q, scale), grad_k, grad_z, None, None


class _Encode(torch.autograd.Function):
    """The pass that gathers; a backward with a graph falls back to explicit scores."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, tasks: Tasks, scale: float
    ) -> tuple[Tensor, Tensor]:
        sums = gather(_hat(q, scale), k, v, tasks)
        value, lse = _mean(sums), sums[:, :, -1].log()
        ctx.save_for_backward(q, k, v, value, lse)
        ctx.tasks, ctx.scale = tasks, scale
        return value, lse

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, value, lse = ctx.saved_tensors
        tasks, scale = ctx.tasks, ctx.scale
        grad_value, grad_lse = grads
        if needs_twin(*grads):

            def joined(*arguments: Any) -> Tensor:
                value, lse = explicit_encode(*arguments)
                lse = lse.masked_fill(lse == -torch.inf, 0.0)
                return torch.cat([value, lse.unsqueeze(-1)], dim=-1)

            grad = torch.cat([grad_value, grad_lse.unsqueeze(-1)], dim=-1)
            return _with_graph(ctx, joined, (q, k, v), grad)
        k, v = side_by_side(k), side_by_side(v)
        # The share of a point of score zero; a graph without points has none.
        share = (-lse.masked_fill(lse == -torch.inf, torch.inf)).exp()
        offset = share * (grad_lse - (grad_value * value).sum(dim=-1))
        grad_sums = share.unsqueeze(-1) * grad_value
        grad_k, grad_v = (_empty(t) for t in (k, v))
        encoded = Gathered(v, grad_sums, offset), grad_v
        grad_q = gradients(_hat(q, scale), k, grad_k, tasks, encoded)
        return _total(grad_q, q, scale), grad_k, grad_v, None, None


def _hat(q: Tensor, scale: float) -> Tensor:
    """Latents as the passes want them: scores are then exponents of two."""
    return q * (scale * math.log2(math.e))


def _empty(x: Tensor) -> Tensor:
    """A contiguous tensor like `x`, not filled."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _mean(sums: Tensor) -> Tensor:
    """Latent values [B, H, M, D] from the sums; zero for a graph without points."""
    weight = sums[:, :, -1:]
    return (sums[:, :, :-1] / weight.masked_fill(weight == 0, 1.0)).mT.contiguous()


def _total(grad: Tensor, q: Tensor, scale: float) -> Tensor:
    """The gradient of the latents, which may be those of all graphs."""
    return grad.sum_to_size(q.shape) * scale


def tied_attention(
    q: Tensor, k: Tensor, v: Tensor, tasks: Tasks, scale: float
) -> Tensor:
    """FLARE attention within each graph by shared exponentials; `in_range` must hold.

    Args:
        q: Latent queries of each graph, or of all.
        k: Keys of the points.
        v: Values of the points, as wide as the keys.
        tasks: The graphs.
        scale: Factor on the scores.

    Shapes:
        - `q`: $[B, H, M, D]$ or $[1, H, M, D]$
        - `k`, `v`: $[N, H, D]$

    Returns:
        $[N, H, D]$. May be differentiated any number of times.
    """
    y: Tensor = _Tied.apply(  # type: ignore[no-untyped-call]
        q, side_by_side(k), side_by_side(v), tasks, scale
    )
    return y


def tied_encode(
    q: Tensor, k: Tensor, v: Tensor, tasks: Tasks, scale: float
) -> LatentState:
    """`tied_attention` up to the state of each graph."""
    value, lse = _Encode.apply(  # type: ignore[no-untyped-call]
        q, side_by_side(k), side_by_side(v), tasks, scale
    )
    return LatentState(value, lse)


def tied_decode(q: Tensor, k: Tensor, z: Tensor, tasks: Tasks, scale: float) -> Tensor:
    """`tied_attention` from the values `z` of the state of each graph, [B, H, M, D]."""
    y: Tensor = _Decode.apply(  # type: ignore[no-untyped-call]
        q, side_by_side(k), z, tasks, scale
    )
    return y
