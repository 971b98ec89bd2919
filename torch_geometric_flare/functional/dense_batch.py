"""Dense batches of graphs, and the packing of graphs into them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Number of padding rows that cost about as much as another attention call.
_CALL_ROWS = 256


def pack_graphs(
    sizes: Sequence[int],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[tuple[tuple[int, ...], ...], bool]:
    """Choose which graphs share one attention call.

    In half precision on CUDA, graphs of any sizes share one call of the fused kernel
    for ragged sequences. Otherwise, graphs are sorted from largest to smallest, and a
    graph joins the current dense batch if padding it to the largest graph there costs
    less than a separate call. Thus graphs of equal size form one dense batch without
    padding, a few large graphs one dense batch each, and many small graphs a single
    padded one.

    Args:
        sizes: Number of points of each graph.
        device: Device of attention.
        dtype: Dtype of attention.

    Returns:
        The graph indices of each dense batch, and whether they run in the kernel for
        ragged sequences. Empty graphs are left out.
    """
    # Loops, not generators: this runs in every forward.
    filled = []
    for graph, size in enumerate(sizes):
        if size > 0:
            filled.append(graph)
    order = sorted(filled, key=sizes.__getitem__, reverse=True)
    unequal = len(order) > 1 and sizes[order[0]] != sizes[order[-1]]
    half = dtype in (torch.float16, torch.bfloat16)
    if unequal and half and torch.device(device).type == "cuda":
        return (tuple(filled),), True
    packed: list[list[int]] = []
    for graph in order:
        if packed and sizes[packed[-1][0]] - sizes[graph] <= _CALL_ROWS:
            packed[-1].append(graph)
        else:
            packed.append([graph])
    # Keep batch order where possible, so that no rows move.
    for graphs in packed:
        graphs.sort()
    packed.sort()
    return tuple(map(tuple, packed)), False


@dataclass(frozen=True, eq=False)
class DenseBatch:
    """Graphs of a ragged batch that run together as one dense batch.

    Args:
        graphs: Their indices in the batch.
        num_points: Total number of points.
        size: Number of points of the largest graph.
        rows: Indices of the points in the flattened dense batch, `[num_points]`; `None`
            without padding.
        mask: True where a row of the dense batch is a point, `[len(graphs), size]`.
    """

    graphs: tuple[int, ...]
    num_points: int
    size: int
    rows: Tensor | None = None
    mask: Tensor | None = None

    @classmethod
    def from_sizes(
        cls, graphs: Sequence[int], sizes: Sequence[int], device: torch.device
    ) -> "DenseBatch":
        """Build the dense batch of some graphs of a batch.

        Args:
            graphs: Their indices in the batch.
            sizes: Number of points of each graph of the batch.
            device: Device of the points.
        """
        counts = [sizes[graph] for graph in graphs]
        size, num_points = max(counts), sum(counts)
        if min(counts) == size:
            return cls(tuple(graphs), num_points, size)
        mask = torch.arange(size, device="cpu") < torch.tensor(counts).unsqueeze(-1)
        rows = mask.flatten().nonzero().squeeze(-1)
        return cls(tuple(graphs), num_points, size, rows.to(device), mask.to(device))

    def pad(self, x: Tensor) -> Tensor:
        """Return points [num_points, ...] as [graphs, size, ...], padded with zeros."""
        shape = (len(self.graphs), self.size, *x.shape[1:])
        if self.rows is None:
            return x.reshape(shape)
        dense = x.new_zeros(len(self.graphs) * self.size, *x.shape[1:])
        return dense.index_copy(0, self.rows, x).reshape(shape)

    def unpad(self, dense: Tensor) -> Tensor:
        """Return points [num_points, ...], the inverse of `pad`."""
        x = dense.flatten(0, 1)
        return x if self.rows is None else x.index_select(0, self.rows)
