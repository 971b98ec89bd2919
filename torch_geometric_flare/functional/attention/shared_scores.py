"""The backend of CPU kernels that compute each score once for both softmaxes.

Eager calls use the autograd functions of `shared_scores_autograd`. `torch.compile`
cannot trace these, because the kernels take raw pointers. It calls the same forward and
backward as custom operators, which do not support second derivatives.

Eager calls bypass the operators, because the dispatcher would take more than 3 % of a
training step on 1,000 points.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op
from torch.utils.flop_counter import register_flop_formula

from torch_geometric_flare.functional.attention.backend import (
    AttentionCall,
    Backend,
    row_tasks,
)
from torch_geometric_flare.functional.attention.shared_scores_autograd import (
    Attended,
    attention_backward,
    attention_forward,
    shared_attention,
    shared_decode,
    shared_encode,
)
from torch_geometric_flare.functional.autograd import contiguous_rows
from torch_geometric_flare.functional.state import SoftmaxState
from torch_geometric_flare.kernels.llvm import is_available
from torch_geometric_flare.kernels.tasks import count_columns

Shape = Sequence[int]

# Wider heads take longer to compile and benefit less.
_LARGEST_WIDTH = 64


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def has_kernels() -> bool:
    """Return whether the kernels can be compiled; constant for `torch.compile`."""
    return is_available()


@custom_op("torch_geometric_flare::attention", mutates_args=(), device_types="cpu")
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sizes: Sequence[int],
    scale: float,
    log_weight: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute FLARE attention within each graph and the tensors for its backward.

    Args:
        q: Latent queries of each graph, or shared by all graphs.
        k: Keys of the points.
        v: Values of the points, as wide as the keys.
        sizes: Number of points of each graph, all positive.
        scale: Scaling factor of the scores.
        log_weight: Logarithm of each point's weight.

    Shapes:
        - `q`: $[B, H, M, D]$ or $[1, H, M, D]$
        - `k`, `v`: $[N, H, D]$
        - `log_weight`: $[N]$

    Returns:
        $[N, H, D]$, and three tensors for `attention_gradients`.
    """
    k, v = contiguous_rows(k), contiguous_rows(v)
    tasks = row_tasks(tuple(sizes))
    y, log, z, log_total = attention_forward(q, k, v, tasks, scale, log_weight)
    return y, log, z, log_total


@attention.register_fake
def _empty_results(
    q: Tensor, k: Tensor, v: Tensor, sizes: Sequence[int], *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    heads, latents, width = q.shape[1:]
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
    kept: Sequence[Tensor],
    grad: Tensor,
    sizes: Sequence[int],
    scale: float,
    log_weight: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v."""
    k, v = contiguous_rows(k), contiguous_rows(v)
    tasks = row_tasks(tuple(sizes))
    saved = Attended(*kept)
    grads = attention_backward(q, k, v, saved, grad, tasks, scale, log_weight)
    grad_q, grad_k, grad_v = grads
    # Match the strides of `_empty_gradients`.
    return grad_q.contiguous(), grad_k.contiguous(), grad_v.contiguous()


@attention_gradients.register_fake
def _empty_gradients(
    q: Tensor, k: Tensor, v: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _setup_context(
    ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]
) -> None:
    q, k, v, ctx.sizes, ctx.scale, log_weight = inputs
    ctx.save_for_backward(q, k, v, log_weight, *output)


def _backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    q, k, v, log_weight, *kept = ctx.saved_tensors
    inputs = q, k, v, kept, grad, ctx.sizes, ctx.scale, log_weight
    return *attention_gradients(*inputs), None, None, None


attention.register_autograd(_backward, setup_context=_setup_context)


@register_flop_formula(torch.ops.torch_geometric_flare.attention)
def _attention_flops(q: Shape, k: Shape, *_: Any, **__: Any) -> int:
    """Count scores, gathering and scattering, each a product of N x M x D."""
    return 6 * k[0] * q[1] * q[2] * q[3]


@register_flop_formula(torch.ops.torch_geometric_flare.attention_gradients)
def _attention_gradient_flops(q: Shape, k: Shape, *_: Any, **__: Any) -> int:
    """Count the scores and two products for each of q, k and v."""
    return 14 * k[0] * q[1] * q[2] * q[3]


def _why_unsupported(call: AttentionCall) -> str | None:
    q_type, dtype, v_type = call.dtypes
    k_width, v_width = call.shapes[1][-1], call.shapes[2][-1]
    compiled = call.tracing == "compile" and call.verb == "attention"
    if call.mask is not None:
        return "there is a mask"
    if call.log_weight is not None and call.log_weight.requires_grad:
        return "it does not compute the gradient of weights"
    if call.tracing != "none" and not (compiled and call.layout is not None):
        return "operations are traced"
    if not call.addressable:
        return f"k is on {call.device}, or an argument is a tensor subclass"
    scale: Any = call.scale
    if not isinstance(scale, (int, float)):
        return f"scale is a {type(scale).__name__}, not a number"
    if call.autocast is not None and torch.float64 not in call.dtypes:
        pass  # computed in float32
    elif dtype not in (torch.float32, torch.float64) or not q_type == dtype == v_type:
        return f"q, k and v are {q_type}, {dtype} and {v_type}, not one float type"
    if k_width != v_width or k_width > _LARGEST_WIDTH:
        return (
            f"keys have width {k_width} and values {v_width}, not one width of at most "
            f"{_LARGEST_WIDTH}"
        )
    if 0 in call.shapes[1]:
        return "there are no points"
    available = has_kernels() if compiled else is_available()
    if available:
        return None
    return "llvmlite is missing or does not support this processor"


def _inputs(
    call: AttentionCall, q: Tensor, k: Tensor, v: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return queries, points as rows [N, H, D] and their log weights [N].

    Under autocast, they are converted to float32.
    """
    log_weight = call.log_weight
    if call.layout is None:
        log_weight = None if log_weight is None else log_weight.flatten()
        k = k.transpose(1, 2).flatten(0, 1)
        v = v if call.verb == "decode" else v.transpose(1, 2).flatten(0, 1)
    if call.autocast is None or torch.float64 in call.dtypes:
        return q, k, v, log_weight
    return q.float(), k.float(), v.float(), log_weight


def _output(call: AttentionCall, y: Tensor) -> Tensor:
    """Return rows in the form of the points, in the dtype of autocast."""
    if call.autocast is not None and torch.float64 not in call.dtypes:
        y = y.to(call.autocast)
    if call.layout is not None:
        return y
    batch, heads, points, width = call.shapes[1]
    return y.view(batch, points, heads, width).transpose(1, 2)


def _attention(call: AttentionCall, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v, log_weight = _inputs(call, q, k, v)
    if call.tracing == "none":
        y = shared_attention(q, k, v, call.tasks, call.scale, log_weight)
        return _output(call, y)
    assert call.layout is not None
    sizes = [call.layout.sizes[graph] for graph in call.layout.sequence]
    return _output(call, attention(q, k, v, sizes, call.scale, log_weight)[0])


def _encode(call: AttentionCall, q: Tensor, k: Tensor, v: Tensor) -> SoftmaxState:
    q, k, v, log_weight = _inputs(call, q, k, v)
    return shared_encode(q, k, v, call.tasks, call.scale, log_weight)


def _decode(call: AttentionCall, q: Tensor, k: Tensor, z: Tensor) -> Tensor:
    q, k, z, _ = _inputs(call, q, k, z)
    return _output(call, shared_decode(q, k, z, call.tasks, call.scale))


SHARED_SCORES = Backend("shared_scores", _why_unsupported, _attention, _encode, _decode)
