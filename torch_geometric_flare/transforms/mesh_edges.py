"""Edges for models that pass messages, from whatever a sample has."""

from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from torch_geometric_flare.transforms.cells_to_edge import CellsToEdge
from torch_geometric_flare.transforms.grid_to_edge import GridToEdge
from torch_geometric_flare.transforms.knn_edges import KNNEdges


class MeshEdges(BaseTransform):
    r"""Give a sample `edge_index`: the mesh's own edges, or else nearest neighbours.

    The first of these that the sample has:

    1. `edge_index` is kept as it is, with its `edge_attr`;
    2. `cells` give their edges, by `CellsToEdge`;
    3. `grid` gives neighbours along rows and columns, by `GridToEdge`;
    4. `pos` gives the `k` nearest neighbours, by `KNNEdges`.

    Samples and batches are both taken. The transforms of PyTorch Geometric make the
    usual features of the edges, relative position and length:

    >>> from torch_geometric.transforms import Cartesian, Compose, Distance
    >>> features = [Cartesian(norm=False), Distance(norm=False)]
    >>> transform = Compose([MeshEdges(k=6), *features])

    leaves $(x_j - x_i, \lVert x_j - x_i \rVert)$ in `edge_attr` for the edge from $j$
    to $i$: $[E, D + 1]$ for coordinates of $D$ dimensions, in their unit. An
    `edge_attr` that was there before is kept in front of these.

    Args:
        k: Number of nearest neighbours, where there is no mesh.
        cell_type: Type of the cells where it is not clear, see `CellsToEdge`.
        periodic: Whether the first axis of the grid is closed, see `GridToEdge`.

    Raises:
        ValueError: If an argument is out of its range. When applied: if the sample has
            none of the four, or the one that counts is malformed.
        ImportError: When applied to points without a mesh, without scipy.
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
