"""Edges between neighbors on a structured grid."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform
from torch_geometric.utils import remove_self_loops, to_undirected


class GridToEdge(BaseTransform):
    r"""Set `edge_index` to edges between neighbors in the rows and columns of `grid`.

    Each edge occurs once in both directions, without self-loops and diagonals. Point
    $(i, j)$ of a grid $(H, W)$ has the index $iW + j$. `grid` is kept, and an existing
    `edge_attr` is removed. In a batch, each sample has its own grid.

    Args:
        periodic: Whether the last index of the first axis is a neighbor of the first
            one, as on a grid that wraps around an airfoil. If both have the same
            positions, the edges between them have length zero.

    Raises:
        ValueError: When applied: if the sample lacks `grid`, or it is not two positive
            integers whose product is the number of points.
    """

    def __init__(self, periodic: bool = False) -> None:
        self.periodic = periodic

    def forward(self, data: Data) -> Data:
        """Return the sample with the edges of its grid."""
        if "grid" not in data:
            raise ValueError(
                f"the sample has no `grid`, only {sorted(data.keys())}: set "
                "data.grid = (H, W), or use KNNEdges"
            )
        batched = isinstance(data, Batch)
        grids = data.grid if batched else [data.grid]
        sizes = data.ptr.diff().tolist() if batched else [data.num_nodes]
        if len(grids) != len(sizes):
            raise ValueError(
                f"grid is {grids!r}, expected one (H, W) for each of the {len(sizes)} "
                "samples: set it before batching, as a tuple"
            )
        start, parts = 0, []
        for grid, size in zip(grids, sizes, strict=True):
            parts.append(start + self._edges(grid, size))
            start += size
        edge_index = torch.cat(parts, dim=1)
        if isinstance(pos := data.get("pos"), Tensor):
            edge_index = edge_index.to(pos.device)
        edge_index, _ = remove_self_loops(edge_index)
        data.edge_index = to_undirected(edge_index, num_nodes=data.num_nodes)
        data.edge_attr = None
        return data

    def _edges(self, grid: Sequence[int], size: int) -> Tensor:
        """Return one direction of the edges of one grid."""
        try:
            height, width = (int(length) for length in grid)
        except (TypeError, ValueError) as error:
            raise ValueError(f"grid is {grid!r}, expected (H, W)") from error
        if min(height, width) < 1 or height * width != size:
            raise ValueError(
                f"grid is {(height, width)}, expected (H, W) with H * W = {size} points"
            )
        points = torch.arange(size).view(height, width)
        pairs = [(points[:-1], points[1:]), (points[:, :-1], points[:, 1:])]
        if self.periodic:
            pairs.append((points[-1], points[0]))
        return torch.cat(
            [torch.stack([a.flatten(), b.flatten()]) for a, b in pairs], dim=1
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(periodic={self.periodic})"
