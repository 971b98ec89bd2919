"""The batch vector: the graph of each point, sorted."""

import torch
from torch import Tensor


def check_batch(
    batch: Tensor | None, num_points: int, batch_size: int | None = None
) -> None:
    """Refuse a batch vector that does not say which points form which graphs.

    Args:
        batch: Graph of each point, sorted; `None` for a single graph.
        num_points: Points $N$ that it numbers.
        batch_size: Number of graphs; by default the largest in `batch` plus one.

    Shapes:
        - `batch`: $[N]$, integers

    Raises:
        ValueError: If `batch` has another length, is no integers, unsorted or negative,
            or names a graph past `batch_size`, or if it is `None` and `batch_size` is
            not one.
    """
    if batch is None:
        if batch_size not in (None, 1):
            raise ValueError(
                f"batch_size is {batch_size} but batch is None, which means one graph: "
                "pass the batch vector"
            )
        return
    if batch.shape != (num_points,):
        raise ValueError(
            f"batch has shape {tuple(batch.shape)}, expected ({num_points},): one "
            "graph number for each point"
        )
    if batch.is_floating_point() or batch.dtype == torch.bool:
        raise ValueError(
            f"batch is {batch.dtype}, expected graph numbers as torch.long"
        )
    if batch_size is not None and batch_size < 0:
        raise ValueError(f"batch_size is {batch_size}, expected a number of graphs")
    if num_points == 0:
        return
    if bool((batch[1:] < batch[:-1]).any()):
        raise ValueError(
            "batch is unsorted: points of one graph must follow one another; sort the "
            "points and batch with `batch.sort(stable=True)`"
        )
    first, last = int(batch[0]), int(batch[-1])
    if first < 0:
        raise ValueError(f"batch holds {first}, expected graph numbers from 0")
    if batch_size is not None and last >= batch_size:
        raise ValueError(
            f"batch names graph {last} but batch_size is {batch_size}: pass at least "
            f"{last + 1}"
        )
