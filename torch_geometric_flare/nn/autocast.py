"""Half precision on a CPU only where it is faster."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional.torch_internals import CPU_COMPUTES_BF16


def outside_autocast(
    module: nn.Module, quicker: bool, function: Callable[..., Tensor], x: object
) -> Tensor | None:
    """Compute outside autocast, if that is faster on a CPU.

    It is faster if the kernels of this package compute in float32, or if the processor
    emulates half precision.

    Args:
        module: What is called, all in float32.
        quicker: Whether the kernels compute most of it.
        function: Computes the result.
        x: Its input.

    Returns:
        The result, in the precision of autocast; `None` to compute under autocast.
    """
    if not isinstance(x, Tensor) or x.device.type != "cpu":
        return None
    low = torch.get_autocast_dtype("cpu")
    if not quicker and CPU_COMPUTES_BF16 and low == torch.bfloat16:
        return None
    for t in (x, *module.parameters()):
        if t.is_floating_point() and t.dtype != torch.float32:
            return None
    with torch.autocast("cpu", enabled=False):
        return function().to(low)
