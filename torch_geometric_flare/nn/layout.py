"""The layout that a module's `batch` argument stands for."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from torch_geometric_flare.functional import PointBatch, distributed_batch_size
from torch_geometric_flare.nn.checks import check_no_edges
from torch_geometric_flare.nn.consistency import module_checksums

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Batch = Tensor | PointBatch | None


def point_layout(
    module: nn.Module,
    x: Tensor,
    batch: Batch,
    batch_size: int | None = None,
    group: "ProcessGroup | None" = None,
    weight: Tensor | None = None,
) -> PointBatch:
    """Return the layout of `batch`, which may be one already.

    Args:
        module: The module that is called, which must be the same on all processes.
        x: Points.
        batch: Graph of each point, sorted; `None` for a single graph; or the layout.
        batch_size: Number of graphs, where trailing ones may be empty.
        group: Processes that hold the other points of these graphs.
        weight: What each point stands for; a layout has its own.

    Shapes:
        - `x`: $[N, C]$
        - `batch`, `weight`: $[N]$

    Raises:
        ValueError: If `batch` does not fit `x` or `batch_size`, or holds edges, or
            `weight` is given beside a layout or is no measure, or the processes
            disagree on the number of graphs, or run different modules.
    """
    if not isinstance(batch, PointBatch):
        if batch is not None:
            check_no_edges(module, batch)
        if group is not None:
            sums = module_checksums(module, x)
            sums["whether points have a weight"] = int(weight is not None)
            batch_size = distributed_batch_size(
                batch, batch_size, group, x.device, sums
            )
        return PointBatch.from_batch(x, batch, batch_size, weight)
    if weight is not None:
        raise ValueError(
            "weight is given, but batch is a PointBatch: give the layout its weights, "
            "by batch.weighted(weight) or PointBatch.from_batch(..., weight=weight)"
        )
    if batch.num_points != x.size(0):
        raise ValueError(
            f"batch lays out {batch.num_points} points but x has {x.size(0)} rows"
        )
    if batch_size not in (None, batch.num_graphs):
        raise ValueError(
            f"batch lays out {batch.num_graphs} graphs but batch_size is {batch_size}"
        )
    return batch


def count_graphs(
    module: nn.Module, batch: Batch, x: Tensor, group: "ProcessGroup | None" = None
) -> int:
    """Return how many graphs `batch` names, on all processes of a group.

    Args:
        module: The module that is called.
        batch: As in `point_layout`.
        x: Points.
        group: Processes that hold the other points of these graphs.
    """
    if isinstance(batch, PointBatch):
        return batch.num_graphs
    if group is not None:
        sums = module_checksums(module, x)
        return distributed_batch_size(batch, None, group, x.device, sums)
    if batch is None:
        return 1
    return int(batch.max()) + 1 if batch.numel() else 0
