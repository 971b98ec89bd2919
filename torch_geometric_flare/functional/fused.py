"""Fused softmax attention whose gradient can itself be differentiated."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter
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


def needs_twin(*grads: Tensor) -> bool:
    """Whether a backward from `grads` must be made of operations to be seen into.

    A batch of gradients, `is_grads_batched=True`, shows in their having no memory.
    """
    return (
        torch.is_grad_enabled()
        or is_transformed()
        or not all(map(torch._C._has_storage, grads))
    )


def differentiable_gradients(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    wanted: Sequence[bool],
    grad: Tensor,
) -> list[Tensor | None]:
    """Gradients of `function`; they carry a graph in a backward of a backward.

    Args:
        function: Differentiable any number of times.
        inputs: Its arguments, with their own graphs.
        wanted: Which of their gradients are needed.
        grad: Gradient of the output.

    Returns:
        One gradient an input, `None` where it is not wanted.
    """
    # Views, so that an input computed from another (here v from k, as in decoding)
    # counts with its direct part alone.
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        if again:
            inputs = [t.view_as(t) for t in inputs]
        else:
            inputs = [t.detach().requires_grad_() for t in inputs]
        out = function(*inputs)
    found = iter(
        torch.autograd.grad(
            out,
            [t for t, want in zip(inputs, wanted, strict=True) if want],
            grad.to(out.dtype),
            create_graph=again,
        )
    )
    return [next(found) if want else None for want in wanted]


def is_traced() -> bool:
    """Whether `torch.compile`, `torch.export`, `torch.func` or a mode looks on.

    A Python autograd function would hide its operations from them.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or is_transformed()
        or torch._C._len_torch_dispatch_stack() > 0
    )


def is_transformed() -> bool:
    """Whether `torch.func` or forward-mode differentiation looks on."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_plain(*tensors: Tensor) -> bool:
    """Whether code may go by the addresses of `tensors` on a CPU."""
    return all(
        type(t) in (Tensor, Parameter) and t.device.type == "cpu" for t in tensors
    )


def is_tracked(*tensors: Tensor) -> bool:
    """Whether a gradient of one of `tensors` may be asked for."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def side_by_side(x: Tensor) -> Tensor:
    """Rows whose numbers lie next to each other, as CPU kernels take for granted."""
    x = x.resolve_neg()
    return x if x.stride(-1) == 1 else x.contiguous()


def flash_on_cpu(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """The CPU kernel behind `scaled_dot_product_attention`, with its log-sum-exp.

    Takes at least one key, and values as wide as the keys; `mask` is added.
    """
    q, k, v = map(side_by_side, (q, k, v))
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, False, attn_mask=mask, scale=scale
    )
    return out, lse


def additive_mask(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """A boolean mask as one to add to scores."""
    if mask is None:
        return None
    return like.new_zeros(mask.shape).masked_fill(~mask, -torch.inf)


class _FusedAttention(torch.autograd.Function):
    """The fused CPU kernel; explicit scores when its gradient is differentiated.

    The backward of the kernel has no derivative. Which of the two is wanted is known
    only when backward runs.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
    ) -> Tensor:
        out, lse = flash_on_cpu(q, k, v, additive_mask(mask, q), scale)
        ctx.save_for_backward(q, k, v, mask, out, lse)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, out, lse = ctx.saved_tensors
        if needs_twin(grads[0]):

            def again(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
                return softmax_attention(q, k, v, mask, ctx.scale)

            wanted = ctx.needs_input_grad[:3]
            found = differentiable_gradients(again, (q, k, v), wanted, grads[0])
            return *found, None, None
        backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        return (
            *backward(
                *map(side_by_side, (grads[0], q, k, v)),
                out,
                lse,
                0.0,
                False,
                attn_mask=additive_mask(mask, q),
                scale=ctx.scale,
            ),
            None,
            None,
        )


def fused_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    r"""`scaled_dot_product_attention`, on the CPU differentiable twice.

    Elsewhere second derivatives need `torch.nn.attention.sdpa_kernel` with the backend
    `MATH` around forward.

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
    if is_transformed():
        return softmax_attention(q, k, v, mask, scale)
    if not is_tracked(q, k, v) or is_traced() or q.device.type != "cpu":
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    if torch.is_autocast_enabled("cpu"):
        low = torch.get_autocast_dtype("cpu")
        q, k, v = q.to(low), k.to(low), v.to(low)
    if 0 in (q.size(-2), k.size(-2)) or v.size(-1) != k.size(-1):
        return softmax_attention(q, k, v, mask, scale)
    with torch.autocast("cpu", enabled=False):
        out: Tensor = _FusedAttention.apply(  # type: ignore[no-untyped-call]
            q, k, v, mask, scale
        )
    return out
