r"""A fused residual MLP that processes blocks of rows in registers and cache.

Each layer is $\phi(xW^\top + b)\;(+\,x)$, where $\phi$ is the tanh-approximated GELU or
the identity. Only the input and the output are full tensors; the backward recomputes
the layers of each block. Input and output rows are zero-padded to whole vectors.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain

import torch
from torch import Tensor
from torch.nn.functional import pad

from torch_geometric_flare.kernels.llvm import lanes
from torch_geometric_flare.kernels.residual_mlp_code import (
    Layer,
    Layers,
    backward_code,
    forward_code,
)
from torch_geometric_flare.kernels.tasks import RowTasks

# More layers, or wider rows in bytes, do not fit in cache and are slow to compile.
_MOST_LAYERS = 8
_WIDEST = 1536

# Number of elements that justifies another thread.
_LEAST_WORK = 1 << 14

Parameters = Sequence[tuple[Tensor, Tensor | None]]


class _Packed(threading.local):
    """Packed weights, keyed by the `id`s of the parameters.

    The parameters are stored as well, so that their `id`s are not reused.
    """

    maps: dict[tuple[int, ...], tuple[Tensor, Parameters]] | None = None


_PACKED = _Packed()

# Bounds the cache if the weights are new tensors at each call.
_MOST_PACKED = 64


@contextmanager
def packed_once() -> Iterator[None]:
    """Pack the weights of an MLP only at its first call.

    Useful for many calls on few rows each. The weights must not change in this context.
    """
    previous = _PACKED.maps
    _PACKED.maps = {} if previous is None else previous
    try:
        yield
    finally:
        _PACKED.maps = previous


@lru_cache
def supports(dtype: torch.dtype, layers: Layers) -> bool:
    """Return whether the kernel supports these layers.

    They must be few and narrow, with hidden widths that are whole vectors.
    """
    if dtype not in (torch.float32, torch.float64) or len(layers) > _MOST_LAYERS:
        return False
    widths = [layers[0].in_channels, *(layer.out_channels for layer in layers)]
    return (
        max(widths) * dtype.itemsize <= _WIDEST
        and all(width % lanes(dtype) == 0 for width in widths[1:-1])
        and all(a.in_channels == a.out_channels for a in layers if a.residual)
    )


@lru_cache
def _padded(dtype: torch.dtype, layers: Layers) -> Layers:
    """Pad the input and output widths to whole vectors; validate the layers."""
    whole, width = lanes(dtype), layers[0].in_channels
    for i, layer in enumerate(layers):
        if layer.in_channels != width or layer.residual > (layer.out_channels == width):
            raise ValueError(f"{layer} cannot follow {width} channels")
        width = layer.out_channels
        if width % whole and i < len(layers) - 1:
            raise ValueError(f"out_channels of {layer} is not a multiple of {whole}")
    first, last = layers[0], layers[-1]
    first = first._replace(in_channels=-(-first.in_channels // whole) * whole)
    padded = [first, *layers[1:]]
    width = -(-last.out_channels // whole) * whole
    padded[-1] = padded[-1]._replace(out_channels=width)
    return tuple(padded)


def forward(x: Tensor, layers: Layers, parameters: Parameters) -> Tensor:
    """Apply all layers to `x`, `[N, C]`, contiguous."""
    padded = _padded(x.dtype, layers)
    maps = _maps(x.dtype, layers, padded, parameters)
    x = _rows("x", x, x.dtype, layers[0].in_channels, padded[0].in_channels)
    y = x.new_empty(x.size(0), padded[-1].out_channels)
    run = forward_code(x.dtype, padded)
    threads = min(torch.get_num_threads(), x.numel() // _LEAST_WORK)
    run(_tasks(x.size(0)), threads, x.data_ptr(), maps.data_ptr(), y.data_ptr())
    width = layers[-1].out_channels
    return y if y.size(1) == width else y[:, :width].contiguous()


def backward(
    x: Tensor,
    layers: Layers,
    parameters: Parameters,
    grad: Tensor,
    of_parameters: bool = True,
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Return the gradients of `x` and of the weight and bias of each layer.

    If `of_parameters` is false, the gradients of weights and biases are not computed.
    """
    padded = _padded(x.dtype, layers)
    maps = _maps(x.dtype, layers, padded, parameters)
    width = layers[0].in_channels
    x = _rows("x", x, x.dtype, width, padded[0].in_channels)
    shape = layers[-1].out_channels, padded[-1].out_channels
    grad = _rows("grad", grad, x.dtype, *shape, num_rows=x.size(0))
    pairs = zip(parameters, padded, strict=True)
    weights = torch.cat([_whole(w, layer).reshape(-1) for (w, _), layer in pairs])
    tasks = _tasks(x.size(0))
    sums = x.new_zeros(tasks.size(0) if of_parameters else 0, maps.numel())
    grad_x = torch.empty_like(x)
    tensors = x, maps, weights, grad, grad_x, sums
    run = backward_code(x.dtype, padded, of_parameters)
    threads = min(torch.get_num_threads(), x.numel() // _LEAST_WORK)
    run(tasks, threads, *map(Tensor.data_ptr, tensors))
    if padded[0].in_channels != width:
        grad_x = grad_x[:, :width].contiguous()
    if not of_parameters:
        return grad_x, []
    grads = []
    parts = sums.sum(dim=0).split([layer.size for layer in padded])
    for part, layer, wide in zip(parts, layers, padded, strict=True):
        weight = part[: -wide.out_channels].view(wide.out_channels, wide.in_channels)
        bias = part[-wide.out_channels :]
        grads.append(
            (
                weight[: layer.out_channels, : layer.in_channels],
                bias[: layer.out_channels],
            )
        )
    return grad_x, grads


def _whole(weight: Tensor, layer: Layer) -> Tensor:
    """Zero-pad a weight to the widths of a layer."""
    rows, columns = layer.out_channels, layer.in_channels
    if weight.shape == (rows, columns):
        return weight
    return pad(weight, (0, columns - weight.size(1), 0, rows - weight.size(0)))


def _maps(
    dtype: torch.dtype, layers: Layers, padded: Layers, parameters: Parameters
) -> Tensor:
    """Return the columns of each weight, followed by its bias or zeros."""
    packed = _PACKED.maps
    if packed is None:
        return _pack(dtype, layers, padded, parameters)
    key = tuple(map(id, chain.from_iterable(parameters)))
    if key not in packed:
        if len(packed) >= _MOST_PACKED:
            packed.clear()
        packed[key] = _pack(dtype, layers, padded, parameters), parameters
    return packed[key][0]


def _pack(
    dtype: torch.dtype, layers: Layers, padded: Layers, parameters: Parameters
) -> Tensor:
    parts = []
    for layer, wide, (weight, bias) in zip(layers, padded, parameters, strict=True):
        shape = layer.out_channels, layer.in_channels
        if weight.shape != shape or (bias is not None and bias.shape != shape[:1]):
            shapes = tuple(weight.shape), None if bias is None else tuple(bias.shape)
            raise ValueError(f"weight and bias have shapes {shapes}, expected {shape}")
        if weight.dtype != dtype or (bias is not None and bias.dtype != dtype):
            raise ValueError(f"a weight or bias is not {dtype}, the dtype of x")
        if wide != layer:
            weight = _whole(weight, wide)
        if bias is None:
            bias = weight.new_zeros(wide.out_channels)
        elif bias.size(0) != wide.out_channels:
            bias = pad(bias, (0, wide.out_channels - bias.size(0)))
        parts += [weight.t().reshape(-1), bias]
    return torch.cat(parts)


def _rows(
    name: str,
    t: Tensor,
    dtype: torch.dtype,
    width: int,
    padded: int,
    num_rows: int | None = None,
) -> Tensor:
    """Pad rows to whole vectors; the kernel takes raw pointers, so validate here."""
    if t.dim() != 2 or t.size(1) != width or num_rows not in (None, t.size(0)):
        rows = "N" if num_rows is None else num_rows
        raise ValueError(
            f"{name} has shape {tuple(t.shape)}, expected [{rows}, {width}]"
        )
    if t.dtype != dtype or not t.is_contiguous():
        raise ValueError(
            f"{name} is {t.dtype} with strides {t.stride()}, expected contiguous "
            f"{dtype}"
        )
    return t if width == padded else pad(t, (0, padded - width))


@lru_cache(maxsize=8)
def _tasks(num_rows: int) -> Tensor:
    """Split the rows into tasks."""
    return RowTasks.from_sizes([num_rows]).table
