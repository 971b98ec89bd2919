"""PyTorch's fused softmax attention on dense batches.

On the CPU, it supports derivatives of any order and returns the log-sum-exp.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from torch_geometric_flare.functional.attention.backend import (
    AttentionCall,
    Backend,
    encode_on_blocks,
    on_blocks,
)
from torch_geometric_flare.functional.attention.reference import (
    attention_scores,
    key_mask,
    reference_encode,
    seen_keys,
    softmax_attention,
)
from torch_geometric_flare.functional.autograd import (
    any_requires_grad,
    contiguous_rows,
    differentiable_gradients,
    needs_reference,
)
from torch_geometric_flare.functional.state import SoftmaxState, state_dtype
from torch_geometric_flare.functional.torch_internals import (
    cpu_flash,
    cpu_flash_backward,
    has_cpu_flash,
    no_autocast,
)

# Maximum number of scores in memory: 4 Mi elements, 16 MiB in float32.
_BLOCK_ELEMENTS = 1 << 22


def _flash_on_cpu(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Return attention and its log-sum-exp from the fused CPU kernel.

    Requires at least one key, and values as wide as the keys. Adds `mask` to the
    scores.
    """
    q, k, v = map(contiguous_rows, (q, k, v))
    return cpu_flash(q, k, v, mask, scale)


def _as_floats(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """Return a mask as floats to add to scores."""
    if mask is None:
        return None
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return like.new_zeros(mask.shape).masked_fill(~mask, -torch.inf)


class _FusedAttention(torch.autograd.Function):
    """The fused CPU kernel with a differentiable backward.

    The backward of the kernel is not differentiable, so a backward that records a graph
    uses explicit scores instead.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
    ) -> Tensor:
        out, lse = _flash_on_cpu(q, k, v, _as_floats(mask, q), scale)
        ctx.save_for_backward(q, k, v, mask, out, lse)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, out, lse = ctx.saved_tensors
        if needs_reference(grads[0]):

            def recompute(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                return softmax_attention(q, k, v, mask, ctx.scale)

            wanted = ctx.needs_input_grad[:3]
            gradients = differentiable_gradients(recompute, (q, k, v), wanted, grads[0])
            return *gradients, None, None
        grad, q, k, v = map(contiguous_rows, (grads[0], q, k, v))
        keys = _as_floats(mask, q)
        inputs = (q, k, v)
        grads = cpu_flash_backward(grad, inputs, out, lse, keys, ctx.scale)
        return *grads, None, None


def fused_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, traced: bool
) -> Tensor:
    r"""Compute `scaled_dot_product_attention`, twice differentiable on the CPU.

    On other devices, second derivatives require `torch.nn.attention.sdpa_kernel` with
    the backend `MATH` around forward.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        mask: True where a query attends to a key, or numbers to add to the scores,
            broadcastable to $[B, H, N_q, N_k]$, or `None`.
        scale: Scaling factor of the scores.
        traced: Whether only PyTorch operations may be used.

    Shapes:
        - `q`: $[B, H, N_q, D]$
        - `k`, `v`: $[B, H, N_k, D]$

    Returns:
        $[B, H, N_q, D]$; zero if all keys of a query are masked.
    """
    if traced or q.device.type != "cpu" or not any_requires_grad(q, k, v):
        if mask is not None and mask.is_floating_point():
            mask = _centered(mask).to(q.dtype)
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    if torch.is_autocast_enabled("cpu") and q.dtype != torch.float64:
        low = torch.get_autocast_dtype("cpu")
        q, k, v = q.to(low), k.to(low), v.to(low)
    empty = 0 in (q.size(-2), k.size(-2))
    if empty or v.size(-1) != k.size(-1) or not has_cpu_flash():
        return softmax_attention(q, k, v, mask, scale)
    with torch.autocast("cpu", enabled=False):
        out: Tensor = _FusedAttention.apply(  # type: ignore[no-untyped-call]
            q, k, v, mask, scale
        )
    return out


def _centered(mask: Tensor) -> Tensor:
    """Subtract each graph's largest log weight to reduce rounding in half precision."""
    top = mask.amax(dim=-1, keepdim=True)
    return mask - top.masked_fill(top == -torch.inf, 0.0)


def _block_size(q: Tensor) -> int:
    return max(1, _BLOCK_ELEMENTS // max(1, q[..., 0].numel()))


def _fused_state(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> SoftmaxState | None:
    """Return the state from the fused CPU kernel, `None` if it does not support it."""
    if (
        q.device.type != "cpu"
        or q.dtype != state_dtype(q.dtype)
        or k.size(-2) == 0
        or v.size(-1) != k.size(-1)
        or not has_cpu_flash()
    ):
        return None
    if mask is None:
        return SoftmaxState(*_flash_on_cpu(q, k, v, None, scale))
    keys = _as_floats(key_mask(mask), q)
    value, lse = _flash_on_cpu(q, k, v, keys, scale)
    empty = ~seen_keys(mask).any(dim=-1)[:, None, None]
    return SoftmaxState(value, lse.masked_fill(empty, -torch.inf))


class _Encode(torch.autograd.Function):
    """`reference_encode` in blocks; saves inputs and state for backward, not scores.

    With P the probabilities normalized over all points, dS = P * (dZ V^T - <dZ, Z>
    + dlse). It includes the gradient of the log-sum-exp, so that merged states are
    differentiable. Backward consists of differentiable operations.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
    ) -> tuple[Tensor, Tensor]:
        state = _fused_state(q, k, v, mask, scale)
        if state is None:
            size = _block_size(q)
            state = reference_encode(q, k[..., :0, :], v[..., :0, :], None, scale)
            for start in range(0, k.size(-2), size):
                rows = slice(start, start + size)
                part = mask if mask is None else mask[:, rows]
                state = state.merge(
                    reference_encode(q, k[..., rows, :], v[..., rows, :], part, scale)
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
        shift = torch.where(lse == -torch.inf, 0.0, lse).unsqueeze(-1)
        grad_q = torch.zeros_like(q)
        grad_k, grad_v = [], []
        for start in range(0, k.size(-2), size):
            rows = slice(start, start + size)
            k_block, v_block = k[..., rows, :], v[..., rows, :]
            keys = key_mask(None if mask is None else mask[:, rows])
            q_wide, k_wide = q.to(value.dtype), k_block.to(value.dtype)
            scores = attention_scores(q_wide, k_wide, keys, ctx.scale)
            weights = (scores - shift).exp()
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


def fused_encode(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> SoftmaxState:
    """Compute `reference_encode` without storing all scores."""
    value, lse = _Encode.apply(  # type: ignore[no-untyped-call]
        q, k, v, mask, scale
    )
    return SoftmaxState(value, lse)


def _why_unsupported(call: AttentionCall) -> str | None:
    if call.tracing == "transform":
        return "torch.func cannot differentiate it twice"
    if call.log_weight is not None and call.log_weight.requires_grad:
        return "it does not compute the gradient of weights"
    if call.tracing != "none" and call.verb == "encode":
        return "no public PyTorch operator returns the log-sum-exp"
    return None


def _attention(
    call: AttentionCall, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
) -> Tensor:
    z = _self_attention(call, q, k, v, mask)
    return _decode(call, q, k, z, None)


def _encode(
    call: AttentionCall, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
) -> SoftmaxState:
    with no_autocast(call.device.type):
        return fused_encode(q, k, v, mask, call.scale)


def _decode(
    call: AttentionCall, q: Tensor, k: Tensor, z: Tensor, mask: Tensor | None
) -> Tensor:
    return _self_attention(call, k, q, z, None)


def _self_attention(
    call: AttentionCall, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
) -> Tensor:
    traced = call.tracing != "none"
    return fused_attention(q, k, v, key_mask(mask), call.scale, traced)


SDPA = Backend(
    "sdpa",
    _why_unsupported,
    on_blocks(_attention),
    encode_on_blocks(_encode),
    on_blocks(_decode),
    on_blocks(_self_attention),
)
