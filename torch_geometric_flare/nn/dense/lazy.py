"""Linear maps that take the width of their input from the first one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

UNKNOWN = -1
"""The width of an input that the first call tells."""


def input_linear(in_channels: int, out_channels: int, bias: bool) -> nn.Linear:
    """Return a linear map, lazy where the width of its input is -1."""
    if in_channels == UNKNOWN:
        return nn.LazyLinear(out_channels, bias=bias)
    return nn.Linear(in_channels, out_channels, bias=bias)


def input_width(linear: nn.Linear) -> int:
    """Return the width of the input, -1 while it is unknown."""
    return UNKNOWN if is_lazy(linear.weight) else linear.weight.size(1)


def first_width(x: Tensor) -> int:
    """Return the width of the first input.

    Raises:
        ValueError: If `x` is not $[N, C]$ with a $C$ above zero.
    """
    if x.dim() != 2 or x.size(1) == 0:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, expected [N, C]: the first input sets the "
            "number of channels C"
        )
    return x.size(1)


# The compiler cannot follow a parameter that changes its class.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def materialise(linear: nn.Linear, width: int) -> bool:
    """Make a lazy map a plain one, and return whether its values are yet to be drawn.

    Args:
        linear: The map; nothing happens to one that is not lazy.
        width: Width of the input. Values that were loaded stay.
    """
    if not isinstance(linear, nn.LazyLinear):
        return False
    weight = linear.weight
    is_new = bool(is_lazy(weight))
    with torch.no_grad():
        # The first call of a lazy module is what turns it into a plain one.
        linear(torch.empty(0, width, dtype=weight.dtype, device=weight.device))
    return is_new


def after_loading(module: nn.Module, hook: Callable[[Any, Any], None]) -> None:
    """Call a function on a module whenever it has loaded a state.

    Args:
        module: The module.
        hook: Takes the module, and the keys that did not fit. A function of a file, so
            that copies of the module call it on themselves.
    """
    module.register_load_state_dict_post_hook(hook)
