r"""Residual layers of an MLP, $x + \mathrm{gelu}(xW^\top + b)$, each as one function.

Such layers are bound by memory: at 64 channels reading and writing takes as long as the
products. So nothing is written that is not needed later.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear

from torch_geometric_flare.functional.attention_operator import has_kernels
from torch_geometric_flare.functional.autograd import (
    differentiable_gradients,
    needs_definition,
)
from torch_geometric_flare.functional.dispatch import has_cpu_memory
from torch_geometric_flare.functional.torch_internals import (
    is_compiled,
    is_traced,
    onednn_linear,
)
from torch_geometric_flare.kernels.gelu import add_gelu, gelu_gradient
from torch_geometric_flare.kernels.llvm import is_available

# A smaller layer is done before Python has chosen.
_LEAST_ELEMENTS = 1 << 14


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute `linear`, by oneDNN where possible: MKL is slow on AMD processors."""
    if (
        x.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and onednn_linear is not None
    ):
        y: Tensor = onednn_linear(x, weight, bias, "none", [], "")
        return y
    return linear(x, weight, bias)


def gelu_layer_by_definition(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: bool
) -> Tensor:
    """Compute `gelu_layer` by operations of torch."""
    y = gelu(linear(x, weight, bias), approximate="tanh")
    return x + y if residual else y


class _GeluLayer(torch.autograd.Function):
    """The layer; a backward with a graph takes the definition."""

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
        if needs_definition(*grads):
            inputs = [x, weight] if bias is None else [x, weight, bias]

            def again(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
                return gelu_layer_by_definition(x, weight, bias, ctx.residual)

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
) -> Tensor:
    r"""Compute $\mathrm{gelu}(xW^\top + b)$, tanh-approximated, plus $x$ if `residual`.

    Args:
        x: Points on a CPU, float32 or float64, contiguous.
        weight: $W$.
        bias: $b$.
        residual: Whether to add `x`.

    Shapes:
        - `x`: $[N, C]$
        - `weight`: $[C', C]$
        - `bias`: $[C']$

    Returns:
        $[N, C']$, which may be differentiated any number of times.
    """
    y: Tensor = _GeluLayer.apply(  # type: ignore[no-untyped-call]
        x, weight, bias, residual
    )
    return y


def suits_kernels(x: Tensor, layers: Sequence[tuple[Tensor, Tensor | None]]) -> bool:
    """Return whether layers that follow one another may be computed by CPU kernels.

    Under `torch.compile` they may where operators of torch hide them.

    Args:
        x: Points, `[*, C]`.
        layers: Weight and bias of each layer.
    """
    if torch.compiler.is_compiling():
        if not is_compiled() or not has_kernels():
            return False
    elif is_traced() or not is_available():
        return False
    if (
        x.dim() == 0
        or x.dtype not in (torch.float32, torch.float64)
        or not has_cpu_memory(x, *chain.from_iterable(layers))
    ):
        return False
    width = x.size(-1)
    rows = x.numel() // max(1, width)
    for weight, bias in layers:
        if (
            weight.dtype != x.dtype
            or (bias is not None and bias.dtype != x.dtype)
            or weight.size(1) != width
            or rows * weight.size(0) < _LEAST_ELEMENTS
        ):
            return False
        width = weight.size(0)
    return True


def gelu_layers(
    x: Tensor, layers: Sequence[tuple[Tensor, Tensor | None]], residual: bool
) -> Tensor | None:
    """Compute several layers, each as `gelu_layer`, where that is the quicker way.

    Args:
        x: Points.
        layers: Weight and bias of each layer.
        residual: Whether the first layer adds its input; all others do.

    Shapes:
        - `x`: $[*, C]$

    Returns:
        $[*, C']$; `None` where operations of torch are the better way.
    """
    if (
        torch.compiler.is_compiling()
        or torch.is_autocast_enabled("cpu")
        or not suits_kernels(x, layers)
    ):
        return None
    y = x.resolve_neg().reshape(-1, x.size(-1)).contiguous()
    for weight, bias in layers:
        y = _GeluLayer.apply(  # type: ignore[no-untyped-call]
            y, weight, bias, residual
        )
        residual = True
    return y.view(*x.shape[:-1], y.size(-1))
