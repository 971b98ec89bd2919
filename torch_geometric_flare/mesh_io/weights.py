"""Length, area or volume that each point or cell of a mesh represents."""

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
from torch_geometric_flare.mesh_io.polygons import cell_corners
from torch_geometric_flare.mesh_io.read import as_mesh

_SIZES = ("Volume", "Area", "Length")


def mesh_weights(mesh: Any, *, cells: bool = False) -> Tensor | None:
    r"""Return the length, area or volume of each cell or point of a mesh.

    The sizes of the cells of the highest dimension: areas of a surface, volumes of a
    volume mesh, lengths of curves. At the points, each cell gives equal shares to its
    corners.

    Args:
        mesh: A mesh of PyVista.
        cells: Return the sizes of the cells instead of the shares of the points.

    Returns:
        $[N]$ in float32, not negative; zero for a degenerate cell or a point without a
        cell. `None` if all sizes are zero, as for a point cloud, whose weights
        `transforms.quadrature_weights` estimates.
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
    """Distribute the size of each cell to its corners."""
    corners = cell_corners(mesh.cast_to_unstructured_grid().GetCells())
    return share_sizes(sizes, *corners, mesh.n_points)
