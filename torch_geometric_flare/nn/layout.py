"""Conversion of a module's `batch` argument to a layout."""

import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional import PointBatch, distributed_batch_size
from torch_geometric_flare.functional.torch_internals import has_autocast
from torch_geometric_flare.nn.checks import check_no_edges

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Batch = Tensor | PointBatch | None

# Attributes that may differ between processes.
_UNCHECKED = ("training", "chunk_size")


def point_layout(
    module: nn.Module,
    x: Tensor,
    batch: Batch,
    batch_size: int | None = None,
    group: "ProcessGroup | None" = None,
    weight: Tensor | None = None,
    u: Tensor | None = None,
) -> PointBatch:
    """Convert `batch` to a layout if it is not one already.

    Args:
        module: The module that is called. It must be the same on all processes.
        x: Points.
        batch: Graph of each point, sorted; `None` for a single graph; or a layout.
        batch_size: Number of graphs. Pass it if trailing graphs may be empty.
        group: Process group over which the points of these graphs are distributed.
        weight: Weight of each point. A layout has its own.
        u: Conditions of each graph. A layout has its own.

    Shapes:
        - `x`: $[N, C]$
        - `batch`, `weight`: $[N]$
        - `u`: $[B, G]$

    Raises:
        ValueError: If `batch` does not fit `x` or `batch_size`, holds edges, `weight`
            or `u` is given with a layout, `weight` is invalid, or the processes
            disagree on the number of graphs or on `u`, or run different modules.
    """
    if not isinstance(batch, PointBatch):
        if batch is not None:
            check_no_edges(module, batch)
        if group is not None:
            sums = module_checksums(module, x)
            sums["whether points have weights"] = int(weight is not None)
            sums["u"] = _crc32_bytes([] if u is None else [u])
            batch_size = distributed_batch_size(
                batch, batch_size, group, x.device, sums
            )
        return PointBatch.from_batch(x, batch, batch_size, weight, u)
    if weight is not None:
        raise ValueError(
            "weight is given, but batch is a PointBatch: add the weights to the layout "
            "with batch.weighted(weight) or PointBatch.from_batch(..., weight=weight)"
        )
    if u is not None:
        raise ValueError(
            "u is given, but batch is a PointBatch: add the conditions to the layout "
            "with batch.conditioned(u) or PointBatch.from_batch(..., u=u)"
        )
    if batch.num_points != x.size(0):
        raise ValueError(
            f"batch has {batch.num_points} points but x has {x.size(0)} rows"
        )
    if batch_size not in (None, batch.num_graphs):
        raise ValueError(
            f"batch has {batch.num_graphs} graphs but batch_size is {batch_size}"
        )
    return batch


def count_graphs(
    module: nn.Module, batch: Batch, x: Tensor, group: "ProcessGroup | None" = None
) -> int:
    """Return the number of graphs in `batch` on all processes of a group.

    Args:
        module: The module that is called.
        batch: As in `point_layout`.
        x: Points.
        group: Process group over which the points of these graphs are distributed.
    """
    if isinstance(batch, PointBatch):
        return batch.num_graphs
    if group is not None:
        sums = module_checksums(module, x)
        return distributed_batch_size(batch, None, group, x.device, sums)
    if batch is None:
        return 1
    return int(batch.max()) + 1 if batch.numel() else 0


def module_checksums(module: nn.Module, x: Tensor) -> dict[str, int]:
    """Return checksums that must be equal on all processes.

    `distributed_batch_size` exchanges them first, so that differing processes raise an
    error instead of returning wrong numbers or losing the connection.

    Args:
        module: The module to run.
        x: Its input on this process.

    Returns:
        Checksums of the configuration, of the precision, and of the exact parameters
        and buffers.
    """
    return {
        "configuration": _configuration(module),
        "precision": _crc32(_precision(x)),
        "weights": _crc32_bytes(module.state_dict(keep_vars=True).values()),
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
            and key not in _UNCHECKED
        }
        lines.append(f"{name} {type(part).__name__} {plain}")
    for name, t in module.state_dict(keep_vars=True).items():
        if isinstance(t, Tensor):
            lines.append(f"{name} {tuple(t.shape)} {t.dtype}")
    return _crc32("\n".join(lines))


def _crc32_bytes(tensors: Iterable[Any]) -> int:
    """Return a checksum of the bytes of tensors; other objects are skipped."""
    total = 0
    for t in tensors:
        if isinstance(t, Tensor) and t.numel():
            values = t.detach().cpu().contiguous().flatten().view(torch.uint8)
            total = zlib.crc32(values.numpy().data, total)
    return total
