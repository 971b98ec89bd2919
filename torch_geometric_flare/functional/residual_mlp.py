"""A residual MLP as one function, which keeps nothing but its input for a backward."""

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from torch_geometric_flare.functional import residual_mlp_operator
from torch_geometric_flare.functional.autograd import (
    differentiable_gradients,
    needs_definition,
)
from torch_geometric_flare.functional.residual_layers import (
    gelu_layer_by_definition,
    suits_kernels,
)
from torch_geometric_flare.kernels.residual_mlp import Layer, backward, fits, forward
from torch_geometric_flare.kernels.residual_mlp import packed_once as packed_once

Parameters = Sequence[tuple[Tensor, Tensor | None]]


def residual_mlp_by_definition(
    x: Tensor, layers: Sequence[Layer], parameters: Parameters
) -> Tensor:
    """Compute the layers by operations of torch."""
    for layer, (weight, bias) in zip(layers, parameters, strict=True):
        if layer.gelu:
            x = gelu_layer_by_definition(x, weight, bias, layer.residual)
        else:
            y = linear(x, weight, bias)
            x = x + y if layer.residual else y
    return x


def _pairs(tensors: Sequence[Tensor | None]) -> list[tuple[Tensor, Tensor | None]]:
    """Return weight and bias of each layer."""
    pairs = []
    for weight, bias in zip(tensors[::2], tensors[1::2], strict=True):
        assert weight is not None
        pairs.append((weight, bias))
    return pairs


class _ResidualMLP(torch.autograd.Function):
    """The MLP; a backward with a graph takes the definition."""

    @staticmethod
    def forward(
        ctx: Any, layers: tuple[Layer, ...], x: Tensor, *tensors: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x, *tensors)
        ctx.layers = layers
        return forward(x, layers, _pairs(tensors))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *tensors = ctx.saved_tensors
        wanted = ctx.needs_input_grad[1:]
        if needs_definition(*grads):
            there = [t is not None for t in (x, *tensors)]
            given = [t for t in (x, *tensors) if t is not None]

            def again(*given: Tensor) -> Tensor:
                rest = iter(given)
                x, *tensors = [next(rest) if is_there else None for is_there in there]
                assert x is not None
                return residual_mlp_by_definition(x, ctx.layers, _pairs(tensors))

            asked = [w for w, is_there in zip(wanted, there, strict=True) if is_there]
            found = iter(differentiable_gradients(again, given, asked, grads[0]))
            return None, *(next(found) if is_there else None for is_there in there)
        # Hooks on saved tensors may return them in another layout.
        x, grad = (t.resolve_neg().contiguous() for t in (x, grads[0]))
        grad_x, pairs = backward(x, ctx.layers, _pairs(tensors), grad)
        gradients = grad_x, *chain.from_iterable(pairs)
        return None, *(
            g if want else None for g, want in zip(gradients, wanted, strict=True)
        )


def suits_widths(widths: Sequence[int]) -> bool:
    """Return whether layers between these widths may be one operation in float32."""
    layers = []
    for a, b in pairwise(widths):
        layers.append(Layer(a, b, True, False))
    return residual_mlp_operator.fits_mlp(torch.float32, tuple(layers)) is True


def residual_mlp(
    x: Tensor,
    hidden: Parameters,
    residual: bool,
    last: tuple[Tensor, Tensor | None] | None = None,
    last_residual: bool = False,
) -> Tensor | None:
    r"""Compute all layers as one operation, where that is the quicker way.

    A backward computes the layers again, on one block of points after another, so that
    only `x` is kept for it.

    Args:
        x: Points.
        hidden: Weight and bias of each layer with a GELU.
        residual: Whether the first of them adds its input; all others do.
        last: Weight and bias of a linear map after them.
        last_residual: Whether it adds its input.

    Shapes:
        - `x`: $[*, C]$

    Returns:
        $[*, C']$, which may be differentiated any number of times; `None` where single
        layers are the better way.
    """
    parameters = list(hidden)
    described = []
    for i, (weight, _) in enumerate(parameters):
        adds = residual or i > 0
        described.append(Layer(weight.size(1), weight.size(0), True, adds))
    if last is not None:
        parameters.append(last)
        weight, _ = last
        described.append(Layer(weight.size(1), weight.size(0), False, last_residual))
    layers = tuple(described)
    autocast = torch.is_autocast_enabled("cpu") and x.dtype != torch.float64
    if autocast:
        # Nothing but input and result is written: half precision would gain nothing.
        x = x.float()
    if not suits_kernels(x, parameters):
        return None
    compiling = torch.compiler.is_compiling()
    suits = residual_mlp_operator.fits_mlp if compiling else fits
    if not suits(x.dtype, layers):
        return None
    points = x.resolve_neg().reshape(-1, x.size(-1)).contiguous()
    y: Tensor
    if compiling:
        weights = [weight for weight, _ in parameters]
        biases = [bias for _, bias in parameters if bias is not None]
        if len(biases) not in (0, len(weights)):
            return None
        kinds = [layer.gelu + 2 * layer.residual for layer in layers]
        y = residual_mlp_operator.residual_mlp(points, weights, biases, kinds)
    elif torch.is_grad_enabled():
        y = _ResidualMLP.apply(  # type: ignore[no-untyped-call]
            layers, points, *chain.from_iterable(parameters)
        )
    else:
        y = forward(points, layers, parameters)
    y = y.view(*x.shape[:-1], y.size(-1))
    return y.to(torch.get_autocast_dtype("cpu")) if autocast else y
