r"""A fused residual MLP that processes blocks of rows in registers and cache.

Each layer is $\phi(xW^\top + b)\;(+\,x)$, where $\phi$ is the tanh-approximated GELU or
the identity. Only the input and the output are full tensors; the backward recomputes
the layers of each block. Input and output rows are zero-padded to whole vectors.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate, chain
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from torch_geometric_flare.kernels.gelu import gelu, gelu_derivative
from torch_geometric_flare.kernels.llvm import lanes
from torch_geometric_flare.kernels.tasks import Kernel, RowTasks
from torch_geometric_flare.kernels.vector_code import Value, VectorCode

# Number of rows per block (fits in cache) and per tile (fits in registers).
_BLOCK = 48
_ROWS = 6

# More layers, or wider rows in bytes, do not fit in cache and are slow to compile.
_MOST_LAYERS = 8
_WIDEST = 1536

# Number of elements that justifies another thread.
_LEAST_WORK = 1 << 14


class Layer(NamedTuple):
    """Widths of a layer, and whether it applies a GELU and adds its input."""

    in_channels: int
    out_channels: int
    gelu: bool
    residual: bool


Layers = tuple[Layer, ...]
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
    run = _forward_code(x.dtype, padded)
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
    run = _backward_code(x.dtype, padded, of_parameters)
    threads = min(torch.get_num_threads(), x.numel() // _LEAST_WORK)
    run(tasks, threads, *map(Tensor.data_ptr, tensors))
    if padded[0].in_channels != width:
        grad_x = grad_x[:, :width].contiguous()
    if not of_parameters:
        return grad_x, []
    grads = []
    parts = sums.sum(dim=0).split([_size(layer) for layer in padded])
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


def _size(layer: Layer) -> int:
    return (layer.in_channels + 1) * layer.out_channels


@lru_cache(maxsize=8)
def _tasks(num_rows: int) -> Tensor:
    """Split the rows into tasks."""
    return RowTasks.from_sizes([num_rows]).table


class _MLPCode(VectorCode):
    """Vector code on blocks of rows."""

    def product(
        self,
        rows: Value,
        depth: Value,
        a: tuple[Value, int, int],
        b: tuple[Value, int],
        y: Value,
        start: Callable[[Value, Value], Value] | None = None,
        add: bool = False,
    ) -> None:
        """Compute the product of two matrices.

        Args:
            rows: Number of rows of the result.
            depth: Length of the reduction.
            a: Left matrix: pointer, row stride and column stride.
            b: Right matrix: pointer and number of columns.
            y: Result.
            start: Initial value of the sum at a row and column. Default: zero.
            add: Whether to add to `y`.
        """
        whole = self.sub(rows, self.builder.srem(self.whole(rows), self.whole(_ROWS)))
        # The sums must fit in the registers: 32 of 64 bytes, or 16.
        most = (4 if self.lanes * self.bits == 512 else 2) * self.lanes
        width = b[1]
        full = width // most * most
        for first, last, count in ((0, whole, _ROWS), (whole, rows, 1)):
            with self.range(first, last, count) as row:
                for left, right in ((0, full), (full, width)):
                    if left < right:
                        size = min(most, right - left)
                        with self.range(left, right, size) as column:
                            tile = row, column, count, size
                            self._tile(tile, depth, a, b, y, start, add)

    def _tile(
        self,
        tile: tuple[Value, Value, int, int],
        depth: Value,
        a: tuple[Value, int, int],
        b: tuple[Value, int],
        y: Value,
        start: Callable[[Value, Value], Value] | None,
        add: bool,
    ) -> None:
        """Compute one tile of a product in registers."""
        first_row, first_column, num_rows, num_columns = tile
        (left, row_step, term_step), (right, width) = a, b
        sums = {
            (row, column): self.local()
            for row in range(num_rows)
            for column in range(0, num_columns, self.lanes)
        }
        places = {
            (row, column): (self.add(first_row, row), self.add(first_column, column))
            for row, column in sums
        }
        for key, total in sums.items():
            zero = self.constant(0.0)
            self.store(zero if start is None else start(*places[key]), total)
        left = self.at(left, self.mul(first_row, row_step))
        with self.range(0, depth) as k:
            terms = self.at(right, self.mul(k, width), first_column)
            factors = self.at(left, self.mul(k, term_step))
            vectors = {
                column: self.load(self.at(terms, column))
                for column in range(0, num_columns, self.lanes)
            }
            for row in range(num_rows):
                factor = self.broadcast(self.at(factors, row * row_step))
                for column, vector in vectors.items():
                    total = sums[row, column]
                    self.store(self.fma(factor, vector, self.load(total)), total)
        for key, total in sums.items():
            row, column = places[key]
            place = self.at(y, self.mul(row, width), column)
            if add:
                self.accumulate(place, self.load(total))
            else:
                self.store(self.load(total), place)

    def apply(
        self,
        rows: Value,
        layer: Layer,
        maps: Value,
        x: Value,
        y: Value,
        slopes: Value | None = None,
    ) -> None:
        """Compute a layer, and the derivative of its GELU if `slopes` is given."""
        wide_in, wide_out = layer.in_channels, layer.out_channels
        bias = self.at(maps, wide_in * wide_out)

        def start(row: Value, column: Value) -> Value:
            return self.load(self.at(bias, column))

        self.product(rows, wide_in, (x, wide_in, 1), (maps, wide_out), y, start)
        if not layer.gelu and not layer.residual:
            return
        with self.range(0, self.mul(rows, wide_out), self.lanes) as i:
            h = self.load(self.at(y, i))
            if slopes is not None:
                self.store(gelu_derivative(self, h), self.at(slopes, i))
            if layer.gelu:
                h = gelu(self, h)
            if layer.residual:
                h = self.builder.fadd(h, self.load(self.at(x, i)))
            self.store(h, self.at(y, i))

    def differentiate(
        self,
        rows: Value,
        layer: Layer,
        weight: Value,
        slopes: Value | None,
        x: Value,
        grad: Value,
        grad_x: Value,
        sums: Value | None,
    ) -> None:
        """Compute the gradients of `apply`; `sums` accumulates those of parameters."""
        wide_in, wide_out = layer.in_channels, layer.out_channels
        grad_h = grad if slopes is None else slopes
        if sums is not None:
            self._sum_gradients(rows, layer, slopes, x, grad, sums)
        elif slopes is not None:
            with self.range(0, self.mul(rows, wide_out), self.lanes) as i:
                slope, value = (self.load(self.at(t, i)) for t in (slopes, grad))
                self.store(self.builder.fmul(value, slope), self.at(slopes, i))

        def start(row: Value, column: Value) -> Value:
            return self.load(self.at(grad, self.mul(row, wide_out), column))

        left, right = (grad_h, wide_out, 1), (weight, wide_in)
        first = start if layer.residual else None
        self.product(rows, wide_out, left, right, grad_x, first)

    def _sum_gradients(
        self,
        rows: Value,
        layer: Layer,
        slopes: Value | None,
        x: Value,
        grad: Value,
        sums: Value,
    ) -> None:
        """Multiply `slopes` by `grad` and accumulate the parameter gradients."""
        wide_in, wide_out = layer.in_channels, layer.out_channels
        bias = self.at(sums, wide_in * wide_out)
        with self.range(0, wide_out, self.lanes) as column:
            total = self.local()
            self.store(self.constant(0.0), total)
            with self.range(0, rows) as row:
                place = self.add(self.mul(row, wide_out), column)
                value = self.load(self.at(grad, place))
                if slopes is not None:
                    slope = self.at(slopes, place)
                    value = self.builder.fmul(value, self.load(slope))
                    self.store(value, slope)
                self.store(self.builder.fadd(self.load(total), value), total)
            self.accumulate(self.at(bias, column), self.load(total))
        grad_h = grad if slopes is None else slopes
        self.product(
            wide_out, rows, (grad_h, 1, wide_out), (x, wide_in), sums, add=True
        )

    def block(self, width: int) -> Value:
        """Allocate a block of rows."""
        return self.local(_BLOCK * width // self.lanes)


def _places(sizes: Sequence[int]) -> list[int]:
    """Return the offsets of consecutive arrays."""
    return [0, *accumulate(sizes)][:-1]


@lru_cache
def _forward_code(dtype: torch.dtype, layers: Layers) -> Kernel:
    c = _MLPCode("residual_mlp", dtype, ("x", "maps", "y"), ())
    blocks = [c.block(layer.out_channels) for layer in layers[:-1]]
    places = _places([_size(layer) for layer in layers])
    with c.range(c["start"], c["stop"], _BLOCK) as start:
        rows = c.min(_BLOCK, c.sub(c["stop"], start))
        x = c.at(c["x"], c.mul(start, layers[0].in_channels))
        results = [*blocks, c.at(c["y"], c.mul(start, layers[-1].out_channels))]
        for layer, y, place in zip(layers, results, places, strict=True):
            c.apply(rows, layer, c.at(c["maps"], place), x, y)
            x = y
    return c.compile()


@lru_cache
def _backward_code(dtype: torch.dtype, layers: Layers, of_parameters: bool) -> Kernel:
    names = "x", "maps", "weights", "grad", "grad_x", "sums"
    c = _MLPCode("residual_mlp_gradient", dtype, names, ())
    sizes = [_size(layer) for layer in layers]
    places = _places(sizes)
    weights = _places([layer.in_channels * layer.out_channels for layer in layers])
    results = [c.block(layer.out_channels) for layer in layers]
    slopes = [c.block(layer.out_channels) if layer.gelu else None for layer in layers]
    grads = [c.block(layer.in_channels) for layer in layers[1:]]
    with c.range(c["start"], c["stop"], _BLOCK) as start:
        rows = c.min(_BLOCK, c.sub(c["stop"], start))
        xs = [c.at(c["x"], c.mul(start, layers[0].in_channels)), *results]
        for i, layer in enumerate(layers):
            # The backward of a final linear layer does not need its result.
            if layer.gelu or i + 1 < len(layers):
                maps = c.at(c["maps"], places[i])
                c.apply(rows, layer, maps, xs[i], xs[i + 1], slopes[i])
        grad_x = c.at(c["grad_x"], c.mul(start, layers[0].in_channels))
        grad = c.at(c["grad"], c.mul(start, layers[-1].out_channels))
        ways = [grad_x, *grads, grad]
        for i, layer in reversed(list(enumerate(layers))):
            sums = None
            if of_parameters:
                sums = c.at(c["sums"], c.mul(c["task"], sum(sizes)), places[i])
            weight = c.at(c["weights"], weights[i])
            c.differentiate(
                rows, layer, weight, slopes[i], xs[i], ways[i + 1], ways[i], sums
            )
    return c.compile()
