r"""A residual layer of an MLP, $x + \mathrm{gelu}(xW^\top + b)$, as one function.

Such layers are bound by memory: at 64 channels reading and writing takes as long as the
products. So nothing is written that is not needed later.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear

from torch_geometric_flare.functional.fused import (
    differentiable_gradients,
    is_plain,
    is_traced,
    needs_twin,
)
from torch_geometric_flare.functional.gelu import add_gelu, gelu_gradient
from torch_geometric_flare.functional.llvm import is_available

# A smaller layer is done before Python has chosen.
_LEAST_ELEMENTS = 1 << 14


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`linear`, by oneDNN where possible: MKL is slow on processors of others."""
    if (
        x.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ):
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return y
    return linear(x, weight, bias)


def _twin(x: Tensor, weight: Tensor, bias: Tensor | None, residual: bool) -> Tensor:
    y = gelu(linear(x, weight, bias), approximate="tanh")
    return x + y if residual else y


class _GeluLayer(torch.autograd.Function):
    """The layer; a backward with a graph falls back to the twin."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, residual: bool
    ) -> Tensor:
        h = _product(x, weight, bias)
        ctx.save_for_backward(x, weight, bias, h)
        ctx.residual = residual
        return add_gelu(h, x if residual else None)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, h = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        if needs_twin(*grads):
            inputs = [x, weight] if bias is None else [x, weight, bias]

            def again(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
                return _twin(x, weight, bias, ctx.residual)

            wanted = wanted[: len(inputs)]
            found = differentiable_gradients(again, inputs, wanted, grads[0])
            return *found, *[None] * (4 - len(found))
        g, h = (t.resolve_neg().contiguous() for t in (grads[0], h))
        grad_h = gelu_gradient(h, g)
        grad_x = grad_weight = grad_bias = None
        if wanted[0]:
            grad_x = _product(grad_h, weight.T.contiguous(), None)
            if ctx.residual:
                grad_x += g
        if wanted[1]:
            grad_weight = grad_h.T @ x
        if wanted[2]:
            grad_bias = grad_h.sum(dim=0)
        return grad_x, grad_weight, grad_bias, None


def gelu_layer(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: bool
) -> Tensor | None:
    r"""$\mathrm{gelu}(xW^\top + b)$, tanh-approximated, plus $x$ if `residual`.

    Args:
        x: Points.
        weight: $W$.
        bias: $b$.
        residual: Whether to add `x`.

    Shapes:
        - `x`: $[*, C]$
        - `weight`: $[C', C]$
        - `bias`: $[C']$

    Returns:
        $[*, C']$, which may be differentiated any number of times; `None` where the
        operations of torch are the better way.
    """
    if (
        is_traced()
        or not is_plain(x, weight, *(() if bias is None else (bias,)))
        or x.dtype not in (torch.float32, torch.float64)
        or x.dtype != weight.dtype
        or x.dim() == 0
        or x.size(-1) != weight.size(1)
        or x[..., 0].numel() * weight.size(0) < _LEAST_ELEMENTS
        or (bias is not None and bias.dtype != x.dtype)
        or torch.is_autocast_enabled("cpu")
        or not is_available()
    ):
        return None
    rows = x.resolve_neg().reshape(-1, x.size(-1)).contiguous()
    y: Tensor = _GeluLayer.apply(  # type: ignore[no-untyped-call]
        rows, weight, bias, residual
    )
    return y.view(*x.shape[:-1], weight.size(0))
