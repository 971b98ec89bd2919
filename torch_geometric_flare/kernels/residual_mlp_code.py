"""The machine code of the residual MLP, forward and backward."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import torch

from torch_geometric_flare.kernels.gelu import gelu, gelu_derivative
from torch_geometric_flare.kernels.tasks import Kernel
from torch_geometric_flare.kernels.vector_code import Value, VectorCode

# Number of rows per block (fits in cache) and per tile (fits in registers).
_BLOCK = 48
_ROWS = 6


class Layer(NamedTuple):
    """Widths of a layer, and whether it applies a GELU and adds its input."""

    in_channels: int
    out_channels: int
    gelu: bool
    residual: bool

    @property
    def size(self) -> int:
        """Number of weights and biases."""
        return (self.in_channels + 1) * self.out_channels


Layers = tuple[Layer, ...]


class MLPCode(VectorCode):
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
def forward_code(dtype: torch.dtype, layers: Layers) -> Kernel:
    """Return the kernel of `residual_mlp.forward` for padded layers."""
    c = MLPCode("residual_mlp", dtype, ("x", "maps", "y"), ())
    blocks = [c.block(layer.out_channels) for layer in layers[:-1]]
    places = _places([layer.size for layer in layers])
    with c.range(c["start"], c["stop"], _BLOCK) as start:
        rows = c.min(_BLOCK, c.sub(c["stop"], start))
        x = c.at(c["x"], c.mul(start, layers[0].in_channels))
        results = [*blocks, c.at(c["y"], c.mul(start, layers[-1].out_channels))]
        for layer, y, place in zip(layers, results, places, strict=True):
            c.apply(rows, layer, c.at(c["maps"], place), x, y)
            x = y
    return c.compile()


@lru_cache
def backward_code(dtype: torch.dtype, layers: Layers, of_parameters: bool) -> Kernel:
    """Return the kernel of `residual_mlp.backward` for padded layers."""
    names = "x", "maps", "weights", "grad", "grad_x", "sums"
    c = MLPCode("residual_mlp_gradient", dtype, names, ())
    sizes = [layer.size for layer in layers]
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
