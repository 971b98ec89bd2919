"""Edges for message passing, from any available connectivity."""

from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from torch_geometric_flare.transforms.cells_to_edge import CellsToEdge
from torch_geometric_flare.transforms.grid_to_edge import GridToEdge
from torch_geometric_flare.transforms.knn_edges import KNNEdges


class MeshEdges(BaseTransform):
    r"""Set `edge_index` to the edges of the mesh, or else to nearest neighbors.

    It is computed from the first of these that the sample has:

    1. `edge_index` is kept unchanged, with its `edge_attr`; 2. `cells` give their
    edges, by `CellsToEdge`; 3. `grid` gives neighbors along rows and columns, by
    `GridToEdge`; 4. `pos` gives the `k` nearest neighbors, by `KNNEdges`.

    Samples and batches are both supported. PyTorch Geometric's transforms compute the
    usual edge features, relative position and length:

    >>> from torch_geometric.transforms import Cartesian, Compose, Distance
    >>> features = [Cartesian(norm=False), Distance(norm=False)]
    >>> transform = Compose([MeshEdges(k=6), *features])

    This sets `edge_attr` to $(x_j - x_i, \lVert x_j - x_i \rVert)$ for the edge from
    $j$ to $i$, $[E, D + 1]$ for coordinates of $D$ dimensions in their unit. The
    columns of an existing `edge_attr` come first.

    Args:
        k: Number of nearest neighbors if there is no mesh.
        cell_type: Type of the cells if it is ambiguous, see `CellsToEdge`.
        periodic: Whether the first axis of the grid is periodic, see `GridToEdge`.

    Raises:
        ValueError: If an argument is out of range. When applied: if the sample has none
            of the four, or the one in use is malformed.
        ImportError: When applied to points without a mesh, if scipy is not installed.
    """

    def __init__(
        self, k: int = 6, cell_type: str | None = None, periodic: bool = False
    ) -> None:
        self.k = k
        self.cell_type = cell_type
        self.periodic = periodic
        self._nearest = KNNEdges(k)
        self._cells = CellsToEdge(cell_type)
        self._grid = GridToEdge(periodic)

    def forward(self, data: Data) -> Data:
        """Return the sample with `edge_index`."""
        if "edge_index" in data:
            return data
        if "cells" in data:
            return self._cells.forward(data)
        if "grid" in data:
            return self._grid.forward(data)
        return self._nearest.forward(data)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(k={self.k}, cell_type={self.cell_type!r}, "
            f"periodic={self.periodic})"
        )
