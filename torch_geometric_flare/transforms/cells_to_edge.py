"""Edges of the cells of a mesh."""

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform
from torch_geometric.utils import remove_self_loops, to_undirected

# Corners are numbered as in VTK.
_TRIANGLE = ((0, 1), (1, 2), (2, 0))
_QUAD = ((0, 1), (1, 2), (2, 3), (3, 0))
CELL_EDGES: dict[str, tuple[tuple[int, int], ...]] = {
    "line": ((0, 1),),
    "triangle": _TRIANGLE,
    "quad": _QUAD,
    "tetra": (*_TRIANGLE, (0, 3), (1, 3), (2, 3)),
    "pyramid": (*_QUAD, (0, 4), (1, 4), (2, 4), (3, 4)),
    "wedge": (*_TRIANGLE, (3, 4), (4, 5), (5, 3), (0, 3), (1, 4), (2, 5)),
    "hexahedron": (
        *_QUAD,
        *((4, 5), (5, 6), (6, 7), (7, 4)),
        *((0, 4), (1, 5), (2, 6), (3, 7)),
    ),
}
"""Pairs of corners that an edge connects, by cell type."""

NUM_CORNERS = {
    name: 1 + max(max(pair) for pair in pairs) for name, pairs in CELL_EDGES.items()
}
_BY_CORNERS = {
    corners: name for name, corners in NUM_CORNERS.items() if name != "tetra"
}


class CellsToEdge(BaseTransform):
    r"""Set `edge_index` to the edges of `cells`.

    Each edge occurs once in both directions, without self-loops. The corners of a cell
    are numbered as in VTK (and meshio): those of a hexahedron go around the bottom
    face, then around the top face. Cells are kept, and an existing `edge_attr` is
    removed. For triangles in `face` [3, K], use `FaceToEdge` of PyTorch Geometric.

    In a batch, the indices in `cells` must have been shifted by sample, as
    `datasets.MeshData` does, in contrast to a plain `Data`.

    Args:
        cell_type: `"line"`, `"triangle"`, `"quad"`, `"tetra"`, `"pyramid"`, `"wedge"`
            or `"hexahedron"`. By default, it is inferred from the number of corners: 2,
            3, 4, 5, 6 or 8. Cells with four corners are quads in two dimensions and on
            surfaces, which are samples with `normal` or `area`; otherwise, they can
            also be tetrahedra, and `cell_type` is required.

    Shapes:
        - `data.cells`: $[K, V]$, `torch.long`
        - `data.edge_index`: $[2, E]$

    Raises:
        ValueError: If `cell_type` is unknown. When applied: if the sample lacks
            `cells`, or they have another shape, are not integers, or refer to points
            that do not exist; if their type is ambiguous; or if the cells of a batch
            were not shifted.
    """

    def __init__(self, cell_type: str | None = None) -> None:
        if cell_type is not None and cell_type not in CELL_EDGES:
            raise ValueError(
                f"cell_type must be one of {list(CELL_EDGES)}, got {cell_type!r}"
            )
        self.cell_type = cell_type

    def forward(self, data: Data) -> Data:
        """Return the sample with the edges of its cells."""
        cells = _checked_cells(data)
        corners = torch.tensor(
            CELL_EDGES[self._type_of(data, cells)], device=cells.device
        )
        edge_index = cells.long()[:, corners.t()].transpose(0, 1).flatten(1)
        edge_index, _ = remove_self_loops(edge_index)
        data.edge_index = to_undirected(edge_index, num_nodes=data.num_nodes)
        data.edge_attr = None
        return data

    def _type_of(self, data: Data, cells: Tensor) -> str:
        corners = cells.size(1)
        if self.cell_type is not None:
            if corners != NUM_CORNERS[self.cell_type]:
                raise ValueError(
                    f"cells has shape {tuple(cells.shape)}, but a {self.cell_type} has "
                    f"{NUM_CORNERS[self.cell_type]} corners"
                )
            return self.cell_type
        if corners not in _BY_CORNERS:
            raise ValueError(
                f"cells has shape {tuple(cells.shape)}, but no cell has {corners} "
                f"corners: {NUM_CORNERS}"
            )
        pos = data.get("pos")
        flat = isinstance(pos, Tensor) and pos.dim() == 2 and pos.size(1) == 2
        if corners == 4 and not flat and "normal" not in data and "area" not in data:
            raise ValueError(
                f"cells has shape {tuple(cells.shape)}: with 4 corners in 3-D they may "
                "be quads or tetrahedra; pass cell_type='quad' or cell_type='tetra'"
            )
        return _BY_CORNERS[corners]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(cell_type={self.cell_type!r})"


def _checked_cells(data: Data) -> Tensor:
    cells = data.get("cells")
    if not isinstance(cells, Tensor):
        raise ValueError(
            f"the sample has no `cells`, only {sorted(data.keys())}: add data.cells of "
            "shape [K, V], or use KNNEdges"
        )
    if cells.dim() != 2 or cells.is_floating_point() or cells.dtype == torch.bool:
        raise ValueError(
            f"cells has shape {tuple(cells.shape)} and type {cells.dtype}, expected "
            "the points [K, V] of each cell as torch.long"
        )
    size = data.num_nodes
    if cells.numel() and not 0 <= int(cells.min()) <= int(cells.max()) < size:
        raise ValueError(
            f"cells refers to points from {int(cells.min())} to {int(cells.max())}, "
            f"but there are {size}"
        )
    if isinstance(data, Batch) and data.num_graphs > 1:
        shifts = data._inc_dict.get("cells")  # `None` if added after batching
        if shifts is not None and not shifts.any():
            raise ValueError(
                "the cells of this batch all refer to points of its first sample: use "
                "datasets.MeshData for samples with cells, which shifts them"
            )
    return cells
