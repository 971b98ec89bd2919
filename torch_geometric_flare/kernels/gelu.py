r"""Vector code of the tanh-approximated GELU and its derivative.

$\mathrm{gelu}(h) = h\,\sigma(2u)$ with $u = \sqrt{2/\pi}\,(h + 0.044715\,h^3)$. On
CPUs, PyTorch's kernel for it takes several times as long as that for the exact GELU.
"""

import math

from torch_geometric_flare.kernels.vector_code import Value, VectorCode

_FACTOR = 2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715

# Beyond this magnitude, the GELU rounds to zero or to its argument.
_FAR = 1000.0


def _sigmoid(c: VectorCode, h: Value) -> tuple[Value, Value]:
    """Return the sigmoid of 2u and the square of h."""
    b = c.builder
    square = b.fmul(h, h)
    scale = -_FACTOR * math.log2(math.e)
    inner = c.fma(square, c.constant(scale * _CUBIC), c.constant(scale))
    # Beyond this limit, the sigmoid rounds to 0 or 1.
    limit = c.constant(100.0)
    power = c.clamp(b.fmul(h, inner), limit)
    one = c.constant(1.0)
    return b.fdiv(one, b.fadd(one, c.exp2(power))), square


def gelu(c: VectorCode, h: Value) -> Value:
    """Return the GELU of a vector."""
    sigmoid, _ = _sigmoid(c, h)
    return c.builder.fmul(_clamp_below(c, h), sigmoid)


def _clamp_below(c: VectorCode, h: Value) -> Value:
    """Clamp a vector from below, because the sigmoid never becomes exactly zero."""
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
