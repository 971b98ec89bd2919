"""Linear maps whose input width is set by the first input."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

UNKNOWN = -1
"""The input width of a module before its first call."""


def input_linear(in_channels: int, out_channels: int, bias: bool) -> nn.Linear:
    """Return a linear map, lazy if `in_channels` is -1."""
    if in_channels == UNKNOWN:
        return nn.LazyLinear(out_channels, bias=bias)
    return nn.Linear(in_channels, out_channels, bias=bias)


def input_width(linear: nn.Linear) -> int:
    """Return the input width, -1 while it is unknown."""
    return UNKNOWN if is_lazy(linear.weight) else linear.weight.size(1)


def first_width(x: Tensor) -> int:
    """Return the width of the first input.

    Raises:
        ValueError: If `x` is not $[N, C]$ with $C > 0$.
    """
    if x.dim() != 2 or x.size(1) == 0:
        raise ValueError(
            f"x has shape {tuple(x.shape)}, expected [N, C]: the first input sets the "
            "number of channels C"
        )
    return x.size(1)


# torch.compile cannot trace a parameter that changes its class.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def materialise(linear: nn.Linear, width: int) -> bool:
    """Materialize a lazy map; return whether its values must still be initialized.

    Args:
        linear: The map. Maps that are not lazy are unchanged.
        width: Width of the input. Loaded values are kept.
    """
    if not isinstance(linear, nn.LazyLinear):
        return False
    weight = linear.weight
    is_new = bool(is_lazy(weight))
    with torch.no_grad():
        # The first call of a lazy module materializes it.
        linear(torch.empty(0, width, dtype=weight.dtype, device=weight.device))
    return is_new


def after_loading(module: nn.Module, hook: Callable[[Any, Any], None]) -> None:
    """Call a function on a module whenever it loads a state dict.

    Args:
        module: The module.
        hook: Called with the module and the incompatible keys. A module-level function,
            so that copies of the module call it on themselves.
    """
    module.register_load_state_dict_post_hook(hook)
