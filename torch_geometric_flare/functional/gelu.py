r"""The tanh-approximated GELU with its residual sum, in few passes over memory.

torch's own kernel for it takes several times as long on a CPU as the one for the exact
GELU, and the sum is one more pass. As $\mathrm{gelu}(h) = h\,\sigma(2u)$ with
$u = \sqrt{2/\pi}\,(h + 0.044715\,h^3)$, it is made here of vectorised operations on
blocks that stay in a core's cache.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from torch_geometric_flare.functional.fused import is_traced
from torch_geometric_flare.functional.threads import over_ranges

_SLOPE = 2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _SLOPE

_BLOCK_ELEMENTS = 1 << 16


def _fill(h: Tensor, x: Tensor | None, out: Tensor) -> None:
    """`out = x + gelu(h)`, all contiguous and flat."""

    def run(start: int, stop: int) -> None:
        scratch = h.new_empty(min(_BLOCK_ELEMENTS, stop - start))
        for i in range(start, stop, _BLOCK_ELEMENTS):
            block = slice(i, min(i + _BLOCK_ELEMENTS, stop))
            u = scratch[: block.stop - block.start]
            torch.mul(h[block], h[block], out=u)
            u.mul_(_CUBIC).add_(_SLOPE).mul_(h[block]).sigmoid_()
            if x is None:
                torch.mul(h[block], u, out=out[block])
            else:
                torch.addcmul(x[block], h[block], u, out=out[block])

    over_ranges(run, h.numel(), _BLOCK_ELEMENTS)


class _ResidualGELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, x: Tensor | None) -> Tensor:
        out = torch.empty_like(h)
        _fill(h.view(-1), None if x is None else x.view(-1), out.view(-1))
        ctx.save_for_backward(h)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (h,) = ctx.saved_tensors
        grad_h = None
        if ctx.needs_input_grad[0]:
            # Differentiable itself.
            grad_h = torch.ops.aten.gelu_backward(grads[0], h, approximate="tanh")
        return grad_h, grads[0] if ctx.needs_input_grad[1] else None


def residual_gelu(h: Tensor, x: Tensor | None = None) -> Tensor:
    r"""$x + \mathrm{gelu}(h)$ with the tanh approximation.

    Args:
        h: What the activation applies to.
        x: What it is added to, of the same shape; `None` for nothing.

    Returns:
        The sum. May be differentiated any number of times.
    """
    if (
        not is_traced()
        and h.device.type == "cpu"
        and h.dtype in (torch.float32, torch.float64)
        and h.numel() >= _BLOCK_ELEMENTS
        and h.is_contiguous()
        and (x is None or (x.is_contiguous() and x.dtype == h.dtype))
    ):
        out: Tensor = _ResidualGELU.apply(h, x)  # type: ignore[no-untyped-call]
        return out
    y = functional.gelu(h, approximate="tanh")
    return y if x is None else x + y


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
    r"""$\mathrm{gelu}(xW^\top + b)$ in one pass where oneDNN has it, else `None`.

    It keeps nothing for a backward, so it serves inference alone.

    Args:
        x: Points.
        weight: $W$.
        bias: $b$.

    Shapes:
        - `x`: $[N, C]$
        - `weight`: $[C', C]$
        - `bias`: $[C']$

    Returns:
        $[N, C']$, or `None` where gradients are wanted or the kernel is missing.
    """
    if (
        is_traced()
        or torch.is_grad_enabled()
        or x.device.type != "cpu"
        or not x.dtype == weight.dtype == torch.float32
        or x.numel() < _BLOCK_ELEMENTS
        or x.dim() != 2
        or torch.is_autocast_enabled("cpu")
        or not torch.backends.mkldnn.is_available()
        or not hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ):
        return None
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "tanh")
    return y
