"""Attention by the CPU kernels as an operator of torch, for `torch.compile`.

The compiler would trace into an autograd function, and a kernel goes by addresses; an
operator it takes whole. What depends on values, such as whether scores are finite, is
asked inside, when the operator runs. Its gradients cannot be differentiated again.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.library import custom_op
from torch.utils.flop_counter import register_flop_formula

from torch_geometric_flare.functional.ragged_definition import define_ragged_attention
from torch_geometric_flare.functional.shared_scores import (
    Attended,
    attention_backward,
    attention_forward,
    graphs_in_range,
)
from torch_geometric_flare.kernels.llvm import is_available
from torch_geometric_flare.kernels.tasks import RowTasks, count_columns

Shape = Sequence[int]

_row_tasks = lru_cache(maxsize=8)(RowTasks.from_sizes)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def has_kernels() -> bool:
    """Return whether the kernels can be compiled; a constant to `torch.compile`."""
    return is_available()


@custom_op("torch_geometric_flare::attention", mutates_args=(), device_types="cpu")
def attention(
    q: Tensor, k: Tensor, v: Tensor, sizes: Sequence[int], scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute FLARE attention within each graph, and what its backward needs.

    Args:
        q: Latent queries of each graph, or of all.
        k: Keys of the points.
        v: Values of the points, as wide as the keys.
        sizes: Points of each graph, none of them empty.
        scale: Factor on the scores.

    Shapes:
        - `q`: $[B, H, M, D]$ or $[1, H, M, D]$
        - `k`, `v`: $[N, H, D]$

    Returns:
        $[N, H, D]$, and three tensors for `attention_gradients`.
    """
    k, v = _rows(k), _rows(v)
    fits = graphs_in_range(q, k, sizes, scale)
    if all(fits):
        found = attention_forward(q, k, v, _row_tasks(tuple(sizes)), scale)
        return found.y, found.log, found.z, found.log_total
    y, log, z, log_total = _empty_results(q, k, v, sizes, scale)
    for graph, fit in zip(_graphs(q, sizes), fits, strict=True):
        inputs = q[graph.latents], k[graph.rows], v[graph.rows]
        if fit:
            part = attention_forward(*inputs, _row_tasks(graph.sizes), scale).y
        else:
            part = define_ragged_attention(*inputs, graph.sizes, scale)
        y[graph.rows] = part
    # Of no use to a backward, which computes again what it needs.
    return y, log.zero_(), z.zero_(), log_total.zero_()


@attention.register_fake
def _empty_results(
    q: Tensor, k: Tensor, v: Tensor, sizes: Sequence[int], scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _, heads, latents, width = q.shape
    return (
        k.new_empty(k.shape),
        k.new_empty(heads, count_columns(sizes)),
        k.new_empty(len(sizes), heads, latents, width),
        k.new_empty(len(sizes), heads, latents),
    )


@custom_op(
    "torch_geometric_flare::attention_gradients", mutates_args=(), device_types="cpu"
)
def attention_gradients(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    found: Sequence[Tensor],
    grad: Tensor,
    sizes: Sequence[int],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `attention` for q, k and v."""
    k, v = _rows(k), _rows(v)
    fits = graphs_in_range(q, k, sizes, scale)
    if all(fits):
        kept, tasks = Attended(*found), _row_tasks(tuple(sizes))
        parts = attention_backward(q, k, v, kept, grad, tasks, scale)
        grad_q, grad_k, grad_v = parts
        # The strides that the compiler was told.
        return grad_q.contiguous(), grad_k.contiguous(), grad_v.contiguous()
    grad_q, grad_k, grad_v = (t.new_zeros(t.shape) for t in (q, k, v))
    for graph, fit in zip(_graphs(q, sizes), fits, strict=True):
        inputs = q[graph.latents], k[graph.rows], v[graph.rows]
        if fit:
            tasks = _row_tasks(graph.sizes)
            kept = attention_forward(*inputs, tasks, scale)
            parts = attention_backward(*inputs, kept, grad[graph.rows], tasks, scale)
        else:
            parts = _define_gradients(*inputs, grad[graph.rows], scale)
        grad_q[graph.latents] += parts[0]
        grad_k[graph.rows], grad_v[graph.rows] = parts[1:]
    return grad_q, grad_k, grad_v


@attention_gradients.register_fake
def _empty_gradients(
    q: Tensor, k: Tensor, v: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    q, k, v, ctx.sizes, ctx.scale = inputs
    ctx.save_for_backward(q, k, v, *output)


def _differentiate(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    q, k, v, *found = ctx.saved_tensors
    found = attention_gradients(q, k, v, found, grad, ctx.sizes, ctx.scale)
    return *found, None, None


attention.register_autograd(_differentiate, setup_context=_keep)


class _Graph(NamedTuple):
    """Where the rows and the latents of one graph are."""

    rows: slice
    latents: slice
    sizes: tuple[int]


def _graphs(q: Tensor, sizes: Sequence[int]) -> list[_Graph]:
    graphs = []
    for i, (stop, size) in enumerate(zip(accumulate(sizes), sizes, strict=True)):
        latents = slice(None) if q.size(0) == 1 else slice(i, i + 1)
        graphs.append(_Graph(slice(stop - size, stop), latents, (size,)))
    return graphs


def _define_gradients(
    q: Tensor, k: Tensor, v: Tensor, grad: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients for one graph: an operator cannot ask autograd."""
    k, v, grad = (t.transpose(0, 1) for t in (k, v, grad))
    scores = scale * k @ q[0].mT
    point_shares, latent_shares = scores.softmax(dim=1), scores.softmax(dim=2)
    z = point_shares.mT @ v
    grad_z = latent_shares.mT @ grad
    of_latents = grad @ z.mT - (grad * (latent_shares @ z)).sum(dim=2, keepdim=True)
    of_points = v @ grad_z.mT - (grad_z * z).sum(dim=2).unsqueeze(1)
    grad_scores = scale * (latent_shares * of_latents + point_shares * of_points)
    rows = grad_scores @ q[0], point_shares @ grad_z
    grad_k, grad_v = (t.transpose(0, 1) for t in rows)
    return (grad_scores.mT @ k).unsqueeze(0), grad_k, grad_v


def _rows(t: Tensor) -> Tensor:
    return t if t.stride(-1) == 1 else t.contiguous()


@register_flop_formula(torch.ops.torch_geometric_flare.attention)
def _attention_flops(q: Shape, k: Shape, *_: Any, **__: Any) -> int:
    """Count scores, gathering and scattering: a product of N x M x D each."""
    return 6 * k[0] * q[1] * q[2] * q[3]


@register_flop_formula(torch.ops.torch_geometric_flare.attention_gradients)
def _attention_gradient_flops(q: Shape, k: Shape, *_: Any, **__: Any) -> int:
    """Count scores, and two products for each of q, k and v."""
    return 14 * k[0] * q[1] * q[2] * q[3]
