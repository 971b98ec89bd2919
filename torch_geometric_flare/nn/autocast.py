"""Avoid half precision on CPUs that do not benefit from it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional.torch_internals import CPU_COMPUTES_BF16


def outside_autocast(
    module: nn.Module, quicker: bool, function: Callable[..., Tensor], x: object
) -> Tensor | None:
    """Compute outside of autocast if that is faster on a CPU.

    This is the case if this package's float32 kernels apply, or if the processor
    emulates half precision.

    Args:
        module: The module to call. It must be in float32.
        quicker: Whether the kernels compute most of the module.
        function: Computes the result.
        x: Its input.

    Returns:
        The result in the dtype of autocast, or `None` if the caller should compute
        under autocast.
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
