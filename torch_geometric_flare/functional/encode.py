"""Softmax over the points with its log-sum-exp, in blocks of points."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from torch_geometric_flare.functional.fused import (
    additive_mask,
    flash_on_cpu,
    is_traced,
)
from torch_geometric_flare.functional.state import LatentState
from torch_geometric_flare.functional.tasks import Tasks
from torch_geometric_flare.functional.tied import prefers_tied, tied_encode

# Scores held at once: 4 Mi elements stay within a few caches' worth of memory.
_BLOCK_ELEMENTS = 1 << 22


def _block_size(q: Tensor) -> int:
    return max(1, _BLOCK_ELEMENTS // max(1, q[..., 0].numel()))


def _scores(q: Tensor, k: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Masked scores [B, H, M, n], in the precision of the state."""
    dtype = state_dtype(q)
    scores = scale * (q.to(dtype) @ k.to(dtype).mT)
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
    return scores


def _probabilities(scores: Tensor, lse: Tensor) -> Tensor:
    """exp(scores - lse), zero where a row has no points at all."""
    lse = torch.where(lse == -torch.inf, 0.0, lse)
    return (scores - lse.unsqueeze(-1)).exp()


def _no_autocast(kind: str) -> AbstractContextManager[Any]:
    if not torch.amp.is_autocast_available(kind):
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def state_dtype(q: Tensor) -> torch.dtype:
    """Precision of a state: sums over many points need at least float32."""
    return torch.promote_types(q.dtype, torch.float32)


def empty_state(q: Tensor, v: Tensor) -> LatentState:
    """The state of no points for these latents and this width of values."""
    like = q.new_empty(0, dtype=state_dtype(q))
    return LatentState.empty(*q.shape[:-1], v.size(-1), like=like)


def encode_explicit(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> LatentState:
    """Encode with all scores at once, by plain differentiable operations."""
    if k.size(-2) == 0:
        return empty_state(q, v)
    scores = _scores(q, k, mask, scale)
    lse = scores.logsumexp(dim=-1)
    return LatentState(_probabilities(scores, lse) @ v.to(lse.dtype), lse)


def _fused(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> LatentState | None:
    """The state by the fused CPU kernel, where it computes in enough precision."""
    if (
        q.device.type != "cpu"
        or q.dtype != state_dtype(q)
        or k.size(-2) == 0
        or v.size(-1) != k.size(-1)
    ):
        return None
    if mask is None:
        return LatentState(*flash_on_cpu(q, k, v, None, scale))
    keys = additive_mask(mask[:, None, None, :], q)
    value, lse = flash_on_cpu(q, k, v, keys, scale)
    nothing = ~mask.any(dim=-1)[:, None, None]
    return LatentState(value, lse.masked_fill(nothing, -torch.inf))


class _Encode(torch.autograd.Function):
    """`encode_explicit` by blocks: keeps its inputs and the state, not the scores.

    With P the probabilities normalised over all points, dS = P * (dZ V^T - <dZ, Z>
    + dlse): the gradient of the log-sum-exp is part of it, so that merged states
    can be differentiated. Backward is made of differentiable operations.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
    ) -> tuple[Tensor, Tensor]:
        size = _block_size(q)
        state = _fused(q, k, v, mask, scale)
        starts = range(0, k.size(-2), size) if state is None else ()
        state = empty_state(q, v) if state is None else state
        for start in starts:
            rows = slice(start, start + size)
            mask_block = None if mask is None else mask[:, rows]
            state = state.merge(
                encode_explicit(q, k[..., rows, :], v[..., rows, :], mask_block, scale)
            )
        ctx.save_for_backward(q, k, v, mask, *state)
        ctx.scale = scale
        return state.value, state.lse

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_value, grad_lse = grads
        q, k, v, mask, value, lse = ctx.saved_tensors
        size = _block_size(q)
        offset = grad_lse - (grad_value * value).sum(dim=-1)  # [B, H, M]
        grad_q = torch.zeros_like(q)
        grad_k, grad_v = [], []
        for start in range(0, k.size(-2), size):
            rows = slice(start, start + size)
            k_block, v_block = k[..., rows, :], v[..., rows, :]
            mask_block = None if mask is None else mask[:, rows]
            weights = _probabilities(_scores(q, k_block, mask_block, ctx.scale), lse)
            grad_scores = weights * (
                grad_value @ v_block.to(value.dtype).mT + offset.unsqueeze(-1)
            )
            grad_scores = (ctx.scale * grad_scores).to(q.dtype)
            grad_q = grad_q + grad_scores @ k_block
            grad_k.append(grad_scores.mT @ q)
            grad_v.append((weights.mT @ grad_value).to(v.dtype))
        if not grad_k:
            return grad_q, torch.zeros_like(k), torch.zeros_like(v), None, None
        return grad_q, torch.cat(grad_k, -2), torch.cat(grad_v, -2), None, None


def encode(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> LatentState:
    """`flare_encode` on tensors of equal rank, [B, H, M, D] and [B, H, N, D]."""
    if is_traced():
        return encode_explicit(q, k, v, mask, scale)
    with _no_autocast(q.device.type):
        if mask is None and prefers_tied(q, k.transpose(1, 2), v, scale):
            rows_k, rows_v = (t.transpose(1, 2).flatten(0, 1) for t in (k, v))
            tasks = Tasks.from_sizes([k.size(2)] * k.size(0))
            return tied_encode(q, rows_k, rows_v, tasks, scale)
        value, lse = _Encode.apply(  # type: ignore[no-untyped-call]
            q, k, v, mask, scale
        )
    return LatentState(value, lse)
