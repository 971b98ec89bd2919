r"""The tanh-approximated GELU with a sum, in one read of memory; and its gradient.

$\mathrm{gelu}(h) = h\,\sigma(2u)$ with $u = \sqrt{2/\pi}\,(h + 0.044715\,h^3)$. The CPU
kernel of torch for it takes several times as long as the one for the exact GELU.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from torch_geometric_flare.kernels.tasks import WIDEST_VECTOR, Kernel
from torch_geometric_flare.kernels.vector_code import Value, VectorCode

# Elements that are worth another thread.
_LEAST_WORK = 1 << 18

_FACTOR = 2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715

# From here on the GELU is zero or its argument, to the last digit.
_FAR = 1000.0


def add_gelu(h: Tensor, x: Tensor | None) -> Tensor:
    """Return the GELU of `h`, plus `x` if given; contiguous tensors of one shape."""
    y = torch.empty_like(h)
    run = _gelu_code(h.dtype, x is not None)
    _over_elements(run, h, x, y)
    return y


def gelu_gradient(h: Tensor, g: Tensor) -> Tensor:
    """Return the gradient of the GELU at `h` times `g`; as in `add_gelu`."""
    y = torch.empty_like(h)
    _over_elements(_gradient_code(h.dtype), h, g, y)
    return y


def _over_elements(run: Kernel, h: Tensor, x: Tensor | None, y: Tensor) -> None:
    """Apply to all elements; a last vector that is not full overlaps the one before."""
    size = h.numel()
    # What follows goes by addresses: the last chance to notice a wrong tensor.
    for t in (h, y) if x is None else (h, x, y):
        if t.shape != h.shape or t.dtype != h.dtype or not t.is_contiguous():
            raise ValueError(
                f"a tensor is {t.dtype} of shape {tuple(t.shape)} with strides "
                f"{t.stride()}, expected contiguous {h.dtype} of {tuple(h.shape)}"
            )
    widest = WIDEST_VECTOR // h.itemsize
    if size < widest:
        raise ValueError(f"{size} elements, expected at least {widest}, one vector")
    pointers = h.data_ptr(), 0 if x is None else x.data_ptr(), y.data_ptr()
    threads = min(torch.get_num_threads(), size // _LEAST_WORK)
    run(_ranges(size, max(1, threads)), threads, *pointers)


@lru_cache(maxsize=8)
def _ranges(size: int, count: int) -> Tensor:
    """Cut the elements into tasks."""
    bounds = [size * i // count for i in range(count + 1)]
    pairs = zip(bounds[:-1], bounds[1:], strict=True)
    return torch.tensor([[0, start, stop, 0] for start, stop in pairs], device="cpu")


def _sigmoid(c: VectorCode, h: Value) -> tuple[Value, Value]:
    """Return the sigmoid of 2u, and the square of h."""
    b = c.builder
    square = b.fmul(h, h)
    scale = -_FACTOR * math.log2(math.e)
    inner = c.fma(square, c.constant(scale * _CUBIC), c.constant(scale))
    # Beyond these the sigmoid is 0 or 1 to the last digit.
    limit = c.constant(100.0)
    power = c.clamp(b.fmul(h, inner), limit)
    one = c.constant(1.0)
    return b.fdiv(one, b.fadd(one, c.exp2(power))), square


def _elements(c: VectorCode) -> Value:
    """Loop over vectors; the last one ends where the range ends."""
    last = c.add(c["stop"], -c.lanes)
    return c.range(c["start"], c["stop"], c.lanes), last


@lru_cache
def _gelu_code(dtype: torch.dtype, residual: bool) -> Kernel:
    c = VectorCode("gelu", dtype, ("h", "x", "y"), ())
    loop, last = _elements(c)
    with loop as i:
        i = c.min(i, last)
        h = c.load(c.at(c["h"], i))
        sigmoid, _ = _sigmoid(c, h)
        h = _not_far_below(c, h)
        if residual:
            y = c.fma(h, sigmoid, c.load(c.at(c["x"], i)))
        else:
            y = c.builder.fmul(h, sigmoid)
        c.store(y, c.at(c["y"], i))
    return c.compile()


def gelu(c: VectorCode, h: Value) -> Value:
    """Return the GELU of a vector."""
    sigmoid, _ = _sigmoid(c, h)
    return c.builder.fmul(_not_far_below(c, h), sigmoid)


def _not_far_below(c: VectorCode, h: Value) -> Value:
    """Bound a vector from below: far below zero the sigmoid is not quite zero."""
    low = c.constant(-_FAR)
    return c.builder.select(c.builder.fcmp_ordered("<", h, low), low, h)


def gelu_derivative(c: VectorCode, h: Value) -> Value:
    """Return the derivative of the GELU at a vector."""
    b = c.builder
    h = c.clamp(h, c.constant(_FAR))
    sigmoid, square = _sigmoid(c, h)
    # sigmoid + h sigmoid (1 - sigmoid) 2u'
    slope = c.fma(square, c.constant(3 * _FACTOR * _CUBIC), c.constant(_FACTOR))
    bend = b.fmul(b.fmul(h, slope), b.fsub(c.constant(1.0), sigmoid))
    return c.fma(sigmoid, bend, sigmoid)


@lru_cache
def _gradient_code(dtype: torch.dtype) -> Kernel:
    c = VectorCode("gelu_gradient", dtype, ("h", "g", "y"), ())
    loop, last = _elements(c)
    with loop as i:
        i = c.min(i, last)
        derivative = gelu_derivative(c, c.load(c.at(c["h"], i)))
        c.store(c.builder.fmul(derivative, c.load(c.at(c["g"], i))), c.at(c["y"], i))
    return c.compile()
