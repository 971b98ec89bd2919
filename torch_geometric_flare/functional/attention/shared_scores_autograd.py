r"""Autograd functions of FLARE attention on the CPU, with scores shared by both steps.

Gathering and scattering are softmaxes of one score matrix $S = s\,KQ^\top$ over its two
axes. Let $A$ be the shares of the points in each latent (columns of $e^S$ divided by
their sums) and $B$ the shares of the latents in each point (rows of $e^S$ divided by
their sums). Then:

- forward: $Z = A^\top V$ and $Y = B Z$;
- backward: $Z' = B^\top \partial Y$ and
  $\partial S = B \circ (\partial Y Z^\top - \langle\partial Y, Y\rangle)
  + A \circ (V Z'^\top - \langle Z', Z\rangle)$, from which
  $\partial K = s\,\partial S\,Q$, $\partial Q = s\,\partial S^\top K$ and
  $\partial V = A Z'$.

Each direction reads the points twice and recomputes the scores instead of storing them.
Forward subtracts running maxima and saves the logarithms of the sums, which backward
subtracts. Scores may therefore be any finite numbers, and NaN does not spread to other
graphs and heads. Second derivatives use the explicit formulas.

`shared_scores` also registers `attention_forward` and `attention_backward` as custom
operators.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_geometric_flare.functional.attention.reference import (
    reference_attention,
    reference_by_graph,
    reference_decode,
    reference_encode,
)
from torch_geometric_flare.functional.autograd import (
    contiguous_rows,
    differentiable_gradients,
    needs_reference,
)
from torch_geometric_flare.functional.state import SoftmaxState
from torch_geometric_flare.kernels.shared_scores import (
    Gathered,
    Scattered,
    gather,
    gather_shares,
    gradients,
    scatter,
)
from torch_geometric_flare.kernels.tasks import RowTasks

# The kernels compute powers of two, so latents are multiplied by log2(e).
_LOG2_E = math.log2(math.e)

_CONTIGUOUS = torch.contiguous_format


def _differentiable_gradients(
    ctx: Any,
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    grad: Tensor,
    log_weight: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """Return differentiable gradients of a formula."""

    def recompute(*inputs: Tensor) -> Tensor:
        q, k, v = inputs
        sizes, scale = ctx.tasks.sizes, ctx.scale
        return torch.cat(
            reference_by_graph(function, q, k, v, sizes, scale, log_weight)
        )

    wanted = ctx.needs_input_grad[:3]
    return tuple(differentiable_gradients(recompute, inputs, wanted, grad))


def _rows(y: Tensor) -> Tensor:
    """Return [1, H, n, D] of one graph as rows."""
    return y[0].transpose(0, 1)


def _attention_of_graph(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    return _rows(reference_attention(q, k, v, mask, scale))


def _decode_of_graph(
    q: Tensor, k: Tensor, z: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    return _rows(reference_decode(q, k, z, scale))


def _encode_of_graph(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    """Return value and log-sum-exp as one tensor [1, H, M, D + 1]."""
    value, lse = reference_encode(q, k, v, mask, scale)
    lse = lse.masked_fill(lse == -torch.inf, 0.0)
    return torch.cat([value, lse.unsqueeze(-1)], dim=-1)


class Attended(NamedTuple):
    """The output of attention and further tensors that its backward needs."""

    y: Tensor
    log: Tensor
    z: Tensor
    log_total: Tensor


def attention_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tasks: RowTasks,
    scale: float,
    log_weight: Tensor | None = None,
) -> Attended:
    """Compute `shared_attention` with the kernels, without an autograd graph."""
    hat = q * (scale * _LOG2_E)
    z, log_total = gather(hat, k, v, tasks, log_weight)
    y = torch.empty_like(k, memory_format=_CONTIGUOUS)
    log = scatter(hat, k, z, y, tasks)
    return Attended(y, log, z, log_total)


def attention_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kept: Attended,
    grad: Tensor,
    tasks: RowTasks,
    scale: float,
    log_weight: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v, given the gradient of `kept.y`."""
    hat, g = q * (scale * _LOG2_E), contiguous_rows(grad)
    # Saved-tensor hooks may change the strides.
    k, v, y, log = map(contiguous_rows, (k, v, kept.y, kept.log))
    grad_z = gather_shares(hat, k, g, tasks, log)
    offset = -(grad_z * kept.z).sum(dim=-1)
    grad_k = torch.empty_like(k, memory_format=_CONTIGUOUS)
    grad_v = torch.empty_like(v, memory_format=_CONTIGUOUS)
    grad_q = gradients(
        hat,
        k,
        grad_k,
        tasks,
        (
            Gathered(v, grad_z, offset, kept.log_total, log_weight),
            grad_v,
        ),
        Scattered(g, y, log, kept.z),
    )
    return _total(grad_q, q, scale), grad_k, grad_v


class _Attention(torch.autograd.Function):
    """Both kernels; backward uses explicit formulas if it records a graph."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        tasks: RowTasks,
        scale: float,
        log_weight: Tensor | None,
    ) -> Tensor:
        result = attention_forward(q, k, v, tasks, scale, log_weight)
        # Keep only saved tensors, so that checkpointing can free all of them.
        ctx.save_for_backward(q, k, v, *result)
        ctx.tasks, ctx.scale, ctx.log_weight = tasks, scale, log_weight
        return result.y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        if needs_reference(*grads):
            results = _differentiable_gradients(
                ctx, _attention_of_graph, (q, k, v), grads[0], ctx.log_weight
            )
            return *results, None, None, None
        inputs = q, k, v, Attended(*kept), grads[0], ctx.tasks, ctx.scale
        return *attention_backward(*inputs, ctx.log_weight), None, None, None


class _Decode(torch.autograd.Function):
    """The scatter kernel, analogous to `_Attention`."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, z: Tensor, tasks: RowTasks, scale: float
    ) -> Tensor:
        y = torch.empty_like(k, memory_format=_CONTIGUOUS)
        log = scatter(q * (scale * _LOG2_E), k, z, y, tasks)
        ctx.save_for_backward(q, k, z, y, log)
        ctx.tasks, ctx.scale = tasks, scale
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, z, y, log = ctx.saved_tensors
        tasks, scale = ctx.tasks, ctx.scale
        if needs_reference(*grads):
            results = _differentiable_gradients(
                ctx, _decode_of_graph, (q, k, z), grads[0]
            )
            return *results, None, None
        hat, g = q * (scale * _LOG2_E), contiguous_rows(grads[0])
        k, y, log = map(contiguous_rows, (k, y, log))
        grad_z = gather_shares(hat, k, g, tasks, log)
        grad_k = torch.empty_like(k, memory_format=_CONTIGUOUS)
        decoded = Scattered(g, y, log, z)
        grad_q = gradients(hat, k, grad_k, tasks, decoded=decoded)
        return _total(grad_q, q, scale), grad_k, grad_z, None, None


class _Encode(torch.autograd.Function):
    """The gather kernel, analogous to `_Attention`."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        tasks: RowTasks,
        scale: float,
        log_weight: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        value, log = gather(q * (scale * _LOG2_E), k, v, tasks, log_weight)
        ctx.save_for_backward(q, k, v, value, log)
        ctx.tasks, ctx.scale, ctx.log_weight = tasks, scale, log_weight
        return value, log * math.log(2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, value, log = ctx.saved_tensors
        tasks, scale = ctx.tasks, ctx.scale
        grad_value, grad_lse = grads
        if needs_reference(*grads):
            grad = torch.cat([grad_value, grad_lse.unsqueeze(-1)], dim=-1)
            results = _differentiable_gradients(
                ctx, _encode_of_graph, (q, k, v), grad, ctx.log_weight
            )
            return *results, None, None, None
        k, v = contiguous_rows(k), contiguous_rows(v)
        offset = grad_lse - (grad_value * value).sum(dim=-1)
        grad_k = torch.empty_like(k, memory_format=_CONTIGUOUS)
        grad_v = torch.empty_like(v, memory_format=_CONTIGUOUS)
        encoded = Gathered(v, grad_value, offset, log, ctx.log_weight), grad_v
        grad_q = gradients(q * (scale * _LOG2_E), k, grad_k, tasks, encoded)
        return _total(grad_q, q, scale), grad_k, grad_v, None, None, None


def _total(grad: Tensor, q: Tensor, scale: float) -> Tensor:
    """Return the gradient of the latents, summed over graphs that share them."""
    return grad.sum_to_size(q.shape) * scale


def shared_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tasks: RowTasks,
    scale: float,
    log_weight: Tensor | None = None,
) -> Tensor:
    """Compute FLARE attention within each graph.

    Args:
        q: Latent queries of each graph, or shared by all graphs.
        k: Keys of the points.
        v: Values of the points, as wide as the keys.
        tasks: The graphs.
        scale: Scaling factor of the scores.
        log_weight: Logarithm of each point's weight; it gets no gradient.

    Shapes:
        - `q`: $[B, H, M, D]$ or $[1, H, M, D]$
        - `k`, `v`: $[N, H, D]$
        - `log_weight`: $[N]$

    Returns:
        $[N, H, D]$. Supports derivatives of any order.
    """
    if k.stride(-1) != 1 or v.stride(-1) != 1 or k.is_neg() or v.is_neg():
        k, v = contiguous_rows(k), contiguous_rows(v)
    y: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
        q, k, v, tasks, scale, log_weight
    )
    return y


def shared_encode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tasks: RowTasks,
    scale: float,
    log_weight: Tensor | None = None,
) -> SoftmaxState:
    """Return the state of each graph, the first half of `shared_attention`."""
    value, lse = _Encode.apply(  # type: ignore[no-untyped-call]
        q, contiguous_rows(k), contiguous_rows(v), tasks, scale, log_weight
    )
    return SoftmaxState(value, lse)


def shared_decode(
    q: Tensor, k: Tensor, z: Tensor, tasks: RowTasks, scale: float
) -> Tensor:
    """Decode latent values `z` of each graph, the second half of `shared_attention`."""
    y: Tensor = _Decode.apply(  # type: ignore[no-untyped-call]
        q, contiguous_rows(k), z, tasks, scale
    )
    return y
