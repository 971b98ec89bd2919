"""Whether all processes of a group run the same module."""

import zlib
from typing import Any

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional.torch_internals import has_autocast

# Processes may differ in these.
_FREE = ("training", "chunk_size")


def module_checksums(module: nn.Module, x: Tensor) -> dict[str, int]:
    """Return what processes must have in common before they exchange anything else.

    Exchanged first, in `distributed_batch_size`, so that processes that differ get a
    sentence instead of wrong numbers or a broken connection.

    Args:
        module: The module that is about to run.
        x: Its input on this process.

    Returns:
        Checksums of the configuration, of the precision, and of the parameters and
        buffers to the bit.
    """
    return {
        "configuration": _configuration(module),
        "precision": _crc32(_precision(x)),
        "weights": _weights(module),
    }


def _crc32(text: str) -> int:
    return zlib.crc32(text.encode())


def _precision(x: Tensor) -> str:
    kind = x.device.type
    autocast = has_autocast(kind) and torch.is_autocast_enabled(kind)
    return f"{x.dtype} {torch.get_autocast_dtype(kind) if autocast else ''}"


def _configuration(module: nn.Module) -> int:
    """Return a checksum of classes, plain attributes, and shapes of parameters."""
    lines = []
    for name, part in module.named_modules():
        plain: dict[str, Any] = {
            key: value
            for key, value in sorted(vars(part).items())
            if isinstance(value, int | float | str | None)
            and not key.startswith("_")
            and key not in _FREE
        }
        lines.append(f"{name} {type(part).__name__} {plain}")
    for name, t in module.state_dict(keep_vars=True).items():
        if isinstance(t, Tensor):
            lines.append(f"{name} {tuple(t.shape)} {t.dtype}")
    return _crc32("\n".join(lines))


def _weights(module: nn.Module) -> int:
    """Return a checksum of the bytes of all parameters and buffers."""
    total = 0
    for t in module.state_dict(keep_vars=True).values():
        if isinstance(t, Tensor) and t.numel():
            values = t.detach().cpu().contiguous().flatten().view(torch.uint8)
            total = zlib.crc32(values.numpy().data, total)
    return total
