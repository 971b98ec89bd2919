"""How much length, area or volume each point or cell of a mesh stands for."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torch_geometric_flare.mesh_io.geometry import (
    is_surface,
    mesh_areas,
    share_sizes,
)
from torch_geometric_flare.mesh_io.read import as_mesh

_SIZES = ("Volume", "Area", "Length")


def mesh_weights(mesh: Any, *, cells: bool = False) -> Tensor | None:
    r"""Return what each cell or each point of a mesh stands for.

    The sizes of its cells: areas of a surface, volumes of a volume, lengths of curves,
    those of the highest dimension that the mesh has. At the points, each cell gives
    equal shares to its corners.

    Args:
        mesh: A mesh of PyVista.
        cells: Return the sizes of the cells instead of the shares of the points.

    Returns:
        $[N]$ in float32, not negative; zero where a cell has no extent, or a point
        belongs to no cell. `None` if no cell has an extent: a cloud of points, whose
        weights `transforms.quadrature_weights` estimates.
    """
    if mesh.n_cells == 0:
        return None
    mesh = as_mesh(mesh)
    if is_surface(mesh):
        weights = mesh_areas(mesh, cells=cells)[:, 0]
    else:
        sizes = _cell_sizes(mesh)
        at_points = sizes if cells else _at_points(mesh, sizes)
        weights = torch.tensor(at_points, dtype=torch.float32)
    return weights if weights.any() else None


def _cell_sizes(mesh: Any) -> npt.NDArray[np.float64]:
    """Return the sizes of the cells of the highest dimension, zero for the others."""
    sized = mesh.compute_cell_sizes(vertex_count=False).cell_data
    for name in _SIZES:
        sizes = np.abs(np.asarray(sized[name], np.float64))
        if sizes.any():
            return sizes
    return sizes


def _at_points(mesh: Any, sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Hand the size of each cell to its corners."""
    cells = mesh.cast_to_unstructured_grid().GetCells()
    offsets = np.asarray(cells.GetOffsetsArray())
    points = np.asarray(cells.GetConnectivityArray())
    return share_sizes(sizes, offsets, points, mesh.n_points)
