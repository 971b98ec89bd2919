"""A residual MLP as an operator of torch, as `attention_operator` is one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op
from torch.utils.flop_counter import register_flop_formula

from torch_geometric_flare.kernels import residual_mlp as kernels
from torch_geometric_flare.kernels.llvm import is_available


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def fits_mlp(
    dtype: torch.dtype, layers: tuple[tuple[int, int, bool, bool], ...]
) -> bool:
    """Return whether the kernels suit these layers; a constant to `torch.compile`."""
    found = tuple(kernels.Layer(*layer) for layer in layers)
    return is_available() and kernels.fits(dtype, found)


@custom_op("torch_geometric_flare::residual_mlp", mutates_args=(), device_types="cpu")
def residual_mlp(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], kinds: Sequence[int]
) -> Tensor:
    """Compute all layers of a residual MLP.

    Args:
        x: Points.
        weights: Weight of each layer.
        biases: Bias of each layer, or nothing.
        kinds: Of each layer, one if it has a GELU, plus two if it adds its input.

    Shapes:
        - `x`: $[N, C]$

    Returns:
        $[N, C']$
    """
    layers, parameters = _layers(weights, biases, kinds)
    return kernels.forward(_whole(x), layers, parameters)


@residual_mlp.register_fake
def _empty_rows(x: Tensor, weights: Sequence[Tensor], *_: Any) -> Tensor:
    return x.new_empty(x.size(0), weights[-1].size(0))


@custom_op(
    "torch_geometric_flare::residual_mlp_gradients", mutates_args=(), device_types="cpu"
)
def residual_mlp_gradients(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    kinds: Sequence[int],
    grad: Tensor,
) -> list[Tensor]:
    """Return the gradients of `residual_mlp` for x, each weight, and each bias."""
    layers, parameters = _layers(weights, biases, kinds)
    grad_x, pairs = kernels.backward(_whole(x), layers, parameters, _whole(grad))
    # Pieces of one tensor each, which an operator must not return.
    found = [w.clone() for w, _ in pairs]
    return [grad_x, *found, *(b.clone() for _, b in pairs[: len(biases)])]


@residual_mlp_gradients.register_fake
def _empty_mlp_gradients(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], *_: Any
) -> list[Tensor]:
    return [t.new_empty(t.shape) for t in (x, *weights, *biases)]


def _keep_mlp(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weights, biases, ctx.kinds = inputs
    ctx.save_for_backward(x, *weights, *biases)
    ctx.count = len(weights)


def _differentiate_mlp(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, *tensors = ctx.saved_tensors
    weights, biases = tensors[: ctx.count], tensors[ctx.count :]
    grad_x, *found = residual_mlp_gradients(x, weights, biases, ctx.kinds, grad)
    return grad_x, found[: ctx.count], found[ctx.count :], None


residual_mlp.register_autograd(_differentiate_mlp, setup_context=_keep_mlp)


def _layers(
    weights: Sequence[Tensor], biases: Sequence[Tensor], kinds: Sequence[int]
) -> tuple[kernels.Layers, kernels.Parameters]:
    some: Sequence[Tensor | None] = biases or [None] * len(weights)
    pairs = list(zip(weights, some, strict=True))
    layers = [
        kernels.Layer(w.size(1), w.size(0), bool(kind & 1), bool(kind & 2))
        for (w, _), kind in zip(pairs, kinds, strict=True)
    ]
    return tuple(layers), pairs


def _whole(t: Tensor) -> Tensor:
    return t.resolve_neg().contiguous()


@register_flop_formula(torch.ops.torch_geometric_flare.residual_mlp)
def _mlp_flops(x: Any, weights: Any, *_: Any, **__: Any) -> int:
    return sum(2 * x[0] * rows * columns for rows, columns in weights)


@register_flop_formula(torch.ops.torch_geometric_flare.residual_mlp_gradients)
def _mlp_gradient_flops(x: Any, weights: Any, *_: Any, **__: Any) -> int:
    """Count the layers, computed again, and a product for x and for each weight."""
    return 3 * _mlp_flops(x, weights)
