"""A residual MLP as one operation: a CPU kernel or a loop over its layers.

In eager mode, the kernel runs as an autograd function, which saves only its input for
backward. `torch.compile` calls the same kernels as custom operators, as in
`attention.shared_scores`; these do not support second derivatives.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor
from torch.library import custom_op
from torch.nn.functional import gelu, linear
from torch.utils.flop_counter import register_flop_formula

from torch_geometric_flare.functional.autograd import (
    differentiable_gradients,
    needs_reference,
)
from torch_geometric_flare.functional.torch_internals import are_addressable, tracing
from torch_geometric_flare.kernels import residual_mlp as kernels
from torch_geometric_flare.kernels.llvm import is_available
from torch_geometric_flare.kernels.residual_mlp import Parameters
from torch_geometric_flare.kernels.residual_mlp import packed_once as packed_once
from torch_geometric_flare.kernels.residual_mlp_code import Layer as Layer
from torch_geometric_flare.kernels.residual_mlp_code import Layers

# For smaller hidden layers, the checks take longer than the layer.
_LEAST_ELEMENTS = 1 << 14


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def supports_layers(
    dtype: torch.dtype, layers: tuple[tuple[int, int, bool, bool], ...]
) -> bool:
    """Return whether the kernel supports the layers; constant for `torch.compile`."""
    return is_available() and kernels.supports(dtype, tuple(Layer(*a) for a in layers))


def supports(x: Tensor, layers: Layers, parameters: Parameters) -> bool:
    """Return whether the kernel supports these layers and is faster than a loop.

    Args:
        x: Points, $[*, C]$; under autocast after conversion.
        layers: Description of each layer.
        parameters: Weight and bias of each layer.
    """
    if (
        tracing() not in ("none", "compile")
        or x.size(-1) != layers[0].in_channels
        or x.numel() * layers[0].out_channels < _LEAST_ELEMENTS * x.size(-1)
        or not are_addressable(x, *chain.from_iterable(parameters))
    ):
        return False
    for weight, bias in parameters:
        if weight.dtype != x.dtype or (bias is not None and bias.dtype != x.dtype):
            return False
    if torch.compiler.is_compiling():
        return bool(supports_layers(x.dtype, layers))
    return is_available() and kernels.supports(x.dtype, layers)


def residual_mlp(
    x: Tensor, parameters: Parameters, input_residual: bool, output_residual: bool
) -> Tensor:
    r"""Apply $x \leftarrow \mathrm{gelu}(Wx + b)\;(+\,x)$ per layer, then $Wx + b$.

    Every hidden layer but the first adds its input. The kernel applies all layers to
    one block of points at a time and recomputes them in backward, so that only `x` is
    saved.

    Args:
        x: Points.
        parameters: Weight and bias of each hidden layer and of the last layer.
        input_residual: Whether the first layer adds its input.
        output_residual: Whether the last layer adds its input.

    Shapes:
        - `x`: $[*, C]$

    Returns:
        $[*, C']$. Supports derivatives of any order.
    """
    specs, last = [], len(parameters) - 1
    for i, (weight, _) in enumerate(parameters):
        residual = i < last or output_residual if i > 0 else input_residual
        specs.append(Layer(weight.size(1), weight.size(0), i < last, residual))
    layers = tuple(specs)
    # Only the result is written, so half precision would not be faster.
    low = torch.is_autocast_enabled("cpu") and x.dtype != torch.float64
    rows = x.float() if low else x
    if not supports(rows, layers, parameters):
        return reference_mlp(x, layers, parameters)
    rows = rows.resolve_neg().reshape(-1, x.size(-1)).contiguous()
    y: Tensor
    if torch.compiler.is_compiling():
        weights, biases, kinds = [], [], []
        for layer, (weight, bias) in zip(layers, parameters, strict=True):
            weights.append(weight)
            biases.append(weight.new_zeros(weight.size(0)) if bias is None else bias)
            kinds.append(layer.gelu + 2 * layer.residual)
        y = mlp_operator(rows, weights, biases, kinds)
    elif torch.is_grad_enabled():
        y = _ResidualMLP.apply(  # type: ignore[no-untyped-call]
            layers, rows, *chain.from_iterable(parameters)
        )
    else:
        y = kernels.forward(rows, layers, parameters)
    y = y.view(*x.shape[:-1], y.size(-1))
    return y.to(torch.get_autocast_dtype("cpu")) if low else y


def reference_mlp(x: Tensor, layers: Layers, parameters: Parameters) -> Tensor:
    """Compute the layers with PyTorch operations."""
    for layer, (weight, bias) in zip(layers, parameters, strict=True):
        y = linear(x, weight, bias)
        if layer.gelu:
            y = gelu(y, approximate="tanh")
        x = x + y if layer.residual else y
    return x


def _pairs(tensors: Sequence[Any]) -> list[tuple[Tensor, Tensor | None]]:
    """Return the weight and bias of each layer."""
    return list(zip(tensors[::2], tensors[1::2], strict=True))


class _ResidualMLP(torch.autograd.Function):
    """The kernel; backward uses PyTorch operations if it records a graph."""

    @staticmethod
    def forward(ctx: Any, layers: Layers, x: Tensor, *tensors: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, *tensors)
        ctx.layers = layers
        pairs = zip(tensors[::2], tensors[1::2], strict=True)
        return kernels.forward(x, layers, cast(Parameters, list(pairs)))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *tensors = ctx.saved_tensors
        wanted = ctx.needs_input_grad[1:]
        if needs_reference(*grads):
            present = [t is not None for t in (x, *tensors)]
            inputs = [t for t in (x, *tensors) if t is not None]

            def recompute(*inputs: Tensor) -> Tensor:
                rest = iter(inputs)
                x, *tensors = [next(rest) if exists else None for exists in present]
                assert x is not None
                return reference_mlp(x, ctx.layers, _pairs(tensors))

            needed = [w for w, exists in zip(wanted, present, strict=True) if exists]
            results = iter(
                differentiable_gradients(recompute, inputs, needed, grads[0])
            )
            return None, *(next(results) if exists else None for exists in present)
        # Saved-tensor hooks may change the strides.
        x, grad = (t.resolve_neg().contiguous() for t in (x, grads[0]))
        pairs = _pairs(tensors)
        grad_x, of_pairs = kernels.backward(x, ctx.layers, pairs, grad, any(wanted[1:]))
        results = iter([grad_x, *chain.from_iterable(of_pairs)])
        padded = (next(results, None) for _ in wanted)
        return None, *(
            g if want else None for g, want in zip(padded, wanted, strict=True)
        )


@custom_op("torch_geometric_flare::residual_mlp", mutates_args=(), device_types="cpu")
def mlp_operator(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], kinds: Sequence[int]
) -> Tensor:
    """Compute all layers of a residual MLP.

    Args:
        x: Points.
        weights: Weight of each layer.
        biases: Bias of each layer.
        kinds: For each layer, 1 if it has a GELU, plus 2 if it adds its input.

    Shapes:
        - `x`: $[N, C]$

    Returns:
        $[N, C']$
    """
    layers, parameters = _layers(weights, biases, kinds)
    return kernels.forward(x.resolve_neg().contiguous(), layers, parameters)


@mlp_operator.register_fake
def _empty_rows(x: Tensor, weights: Sequence[Tensor], *_: Any) -> Tensor:
    return x.new_empty(x.size(0), weights[-1].size(0))


@custom_op(
    "torch_geometric_flare::residual_mlp_gradients", mutates_args=(), device_types="cpu"
)
def mlp_gradients(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    kinds: Sequence[int],
    grad: Tensor,
    of_parameters: bool,
) -> list[Tensor]:
    """Return the gradients of x and, if `of_parameters`, of each weight and bias."""
    layers, parameters = _layers(weights, biases, kinds)
    x, grad = (t.resolve_neg().contiguous() for t in (x, grad))
    grad_x, pairs = kernels.backward(x, layers, parameters, grad, of_parameters)
    # The gradients are views of one tensor, which a custom operator must not return.
    return [grad_x, *(w.clone() for w, _ in pairs), *(b.clone() for _, b in pairs)]


@mlp_gradients.register_fake
def _empty_mlp_gradients(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    kinds: Sequence[int],
    grad: Tensor,
    of_parameters: bool,
) -> list[Tensor]:
    tensors = (x, *weights, *biases) if of_parameters else (x,)
    return [t.new_empty(t.shape) for t in tensors]


def _setup_mlp_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weights, biases, ctx.kinds = inputs
    ctx.save_for_backward(x, *weights, *biases)
    ctx.of_parameters = any(t.requires_grad for t in (*weights, *biases))


def _mlp_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, *tensors = ctx.saved_tensors
    count = len(tensors) // 2
    weights, biases = tensors[:count], tensors[count:]
    grad_x, *grads = mlp_gradients(
        x, weights, biases, ctx.kinds, grad, ctx.of_parameters
    )
    if not ctx.of_parameters:
        grads = [None] * len(tensors)
    return grad_x, grads[:count], grads[count:], None


mlp_operator.register_autograd(_mlp_backward, setup_context=_setup_mlp_context)


def _layers(
    weights: Sequence[Tensor], biases: Sequence[Tensor], kinds: Sequence[int]
) -> tuple[Layers, Parameters]:
    layers = [
        Layer(w.size(1), w.size(0), bool(kind & 1), bool(kind & 2))
        for w, kind in zip(weights, kinds, strict=True)
    ]
    return tuple(layers), list(zip(weights, biases, strict=True))


@register_flop_formula(torch.ops.torch_geometric_flare.residual_mlp)
def _mlp_flops(x: Any, weights: Any, *_: Any, **__: Any) -> int:
    return sum(2 * x[0] * rows * columns for rows, columns in weights)


@register_flop_formula(torch.ops.torch_geometric_flare.residual_mlp_gradients)
def _mlp_gradient_flops(
    x: Any, weights: Any, *inputs: Any, of_parameters: bool = True, **_: Any
) -> int:
    """Count the recomputed layers and one product for x and for each weight."""
    of_parameters = inputs[3] if len(inputs) > 3 else of_parameters
    return (3 if of_parameters else 2) * _mlp_flops(x, weights)
