"""What the shape of a mesh tells: normals and areas."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyvista as pv
import torch
import vtk
from torch import Tensor

_FACES = (vtk.VTK_TRIANGLE, vtk.VTK_QUAD, vtk.VTK_POLYGON)


def is_surface(mesh: Any) -> bool:
    """Return whether all cells are triangles, quads and polygons.

    Args:
        mesh: A mesh of `read_mesh`.
    """
    if isinstance(mesh, pv.PolyData):
        return bool(mesh.n_cells == mesh.GetNumberOfPolys())
    return bool(np.isin(mesh.celltypes, _FACES).all())


def mesh_normals(mesh: Any, *, cells: bool = False) -> Tensor:
    r"""Return the unit normals of a surface mesh.

    VTK makes the orientation of neighbouring faces consistent and, if the surface is
    closed, turns all normals outward; normals of an open surface keep the orientation
    of its faces. The normal at a vertex is the normalised mean over its faces.

    Args:
        mesh: A mesh of triangles, quads and polygons.
        cells: Return the normals of the cells instead of those at the vertices.

    Returns:
        Unit normals $[N, 3]$ in float32; zero at vertices without a face and on faces
        without extent.

    Raises:
        ValueError: If the mesh has cells that are no faces.
    """
    surface = _faces(mesh, "normals")
    surface = surface.compute_normals(
        cell_normals=cells,
        point_normals=not cells,
        split_vertices=False,
        consistent_normals=True,
        auto_orient_normals=surface.n_open_edges == 0,
    )
    data = surface.cell_data if cells else surface.point_data
    return torch.tensor(np.asarray(data["Normals"], np.float32))


def mesh_areas(mesh: Any, *, cells: bool = False) -> Tensor:
    r"""Return the areas of the faces of a surface mesh, or those of its vertices.

    Args:
        mesh: A mesh of triangles, quads and polygons.
        cells: Return the areas of the cells. At the vertices instead, each face gives
            equal shares of its area to its corners, so that the sums agree.

    Returns:
        Areas $[N, 1]$ in float32, in the square of the unit of the mesh.

    Raises:
        ValueError: If the mesh has cells that are no faces.
    """
    surface = _faces(mesh, "areas")
    areas: npt.NDArray[Any] = np.asarray(
        surface.compute_cell_sizes(length=False, volume=False).cell_data["Area"],
        np.float64,
    )
    if not cells:
        corners = np.diff(surface.GetPolys().GetOffsetsArray())
        shares = np.repeat(areas / corners, corners)
        points = np.asarray(surface.GetPolys().GetConnectivityArray())
        areas = np.bincount(points, shares, minlength=surface.n_points)
    return torch.tensor(areas, dtype=torch.float32).unsqueeze(1)


def _faces(mesh: Any, wanted: str) -> Any:
    """Return the faces alone, vertices and cells in the order of `mesh`."""
    if is_surface(mesh):
        polygons = isinstance(mesh, pv.PolyData)
        return pv.PolyData(mesh.points, faces=mesh.faces if polygons else mesh.cells)
    raise ValueError(
        f"the mesh has cells other than triangles, quads and polygons, which have no "
        f"{wanted}: extract its surface, as faces alone"
    )
