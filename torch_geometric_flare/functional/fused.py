"""Fused softmax attention whose gradient can itself be differentiated."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def softmax_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    """Attention with explicit scores; a row without keys gives zero.

    The scores are formed in full, so memory grows with queries times keys.
    """
    scores = scale * q @ k.mT
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights * mask
    return weights @ v


class _FusedAttention(torch.autograd.Function):
    """Fused attention; explicit scores when its gradient is differentiated.

    The backward of the fused CPU and CUDA kernels has no derivative. Which of the
    two is wanted is known only when backward runs, so the fused graph is kept and
    the explicit one is built on demand.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
    ) -> Tensor:
        wanted = ctx.needs_input_grad
        fused_q = q.detach().requires_grad_(wanted[0])
        fused_k = k.detach().requires_grad_(wanted[1])
        fused_v = v.detach().requires_grad_(wanted[2])
        with torch.enable_grad():
            out = scaled_dot_product_attention(
                fused_q, fused_k, fused_v, attn_mask=mask, scale=scale
            )
        ctx.save_for_backward(q, k, v, mask)
        ctx.scale = scale
        ctx.fused = (fused_q, fused_k, fused_v), out
        return out.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        differentiable = torch.is_grad_enabled()
        if differentiable:
            q, k, v, mask = ctx.saved_tensors
            # Views, so that an input computed from another (here v from k, as in
            # decoding) counts with its direct part alone.
            q, k, v = q.view_as(q), k.view_as(k), v.view_as(v)
            inputs, out = (q, k, v), softmax_attention(q, k, v, mask, ctx.scale)
        else:
            inputs, out = ctx.fused
        needed = ctx.needs_input_grad[:3]
        found = iter(
            torch.autograd.grad(
                out,
                [t for t, want in zip(inputs, needed, strict=True) if want],
                grad.to(out.dtype),
                create_graph=differentiable,
                retain_graph=True,
            )
        )
        return *(next(found) if want else None for want in needed), None, None


def fused_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    r"""`scaled_dot_product_attention`, differentiable twice.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        mask: True where a query may see a key, broadcastable to
            $[B, H, N_q, N_k]$, or `None`.
        scale: Factor on the scores.

    Shapes:
        - `q`: $[B, H, N_q, D]$
        - `k`, `v`: $[B, H, N_k, D]$

    Returns:
        $[B, H, N_q, D]$; zero where a query sees no key.
    """
    tracked = torch.is_grad_enabled() and (
        q.requires_grad or k.requires_grad or v.requires_grad
    )
    # Compiled and exported graphs hold the plain call: a Python autograd function
    # would hide it from the compiler.
    if not tracked or torch.compiler.is_compiling():
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    out: Tensor = _FusedAttention.apply(  # type: ignore[no-untyped-call]
        q, k, v, mask, scale
    )
    return out
