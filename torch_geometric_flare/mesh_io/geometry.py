"""Normals and areas of meshes."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyvista as pv
import torch
from torch import Tensor
from vtkmodules import vtkCommonDataModel as vtk

from torch_geometric_flare.mesh_io.polygons import area_vectors, cell_corners

_FACES = (vtk.VTK_TRIANGLE, vtk.VTK_QUAD, vtk.VTK_POLYGON)
# Names of normals in files that do not mark them as such.
_NAMES = ("normals", "normal")


def is_surface(mesh: Any) -> bool:
    """Return whether all cells are triangles, quads and polygons.

    Args:
        mesh: A mesh from `read_mesh`.
    """
    if isinstance(mesh, pv.PolyData):
        return bool(mesh.n_cells == mesh.GetNumberOfPolys())
    return bool(np.isin(mesh.celltypes, _FACES).all())


def oriented_faces(mesh: Any, wanted: str = "area vectors") -> Any:
    """Return the faces of a surface mesh, all oriented outward.

    If the mesh has normals at its cells or points (marked as normals, or called
    `Normals` or `normal`), they define the orientation: around a cavity, nothing else
    shows which side is outside. Otherwise VTK orients the faces: it makes neighbors
    consistent, also across coincident points, and orients the faces of a closed surface
    outward.

    Args:
        mesh: A mesh of triangles, quads and polygons.
        wanted: Purpose of the faces, for the message.

    Returns:
        A `pyvista.PolyData` of the faces, cells and points in the order of `mesh`.

    Raises:
        ValueError: If the mesh has cells that are not faces.
    """
    surface = _faces(mesh, wanted)
    _, vectors = area_vectors(surface)
    joined = _joined(surface)
    _, turned = area_vectors(
        joined.compute_normals(
            cell_normals=True,
            point_normals=False,
            split_vertices=False,
            consistent_normals=True,
            auto_orient_normals=joined.n_open_edges == 0,
        )
    )
    turn = (vectors * turned).sum(1) < 0
    own = own_normals(mesh, cells=True)
    if own is None and (at_points := own_normals(mesh, cells=False)) is not None:
        offsets, corners = cell_corners(surface.GetPolys())
        own = np.add.reduceat(at_points[corners], offsets[:-1])
    if own is not None:
        along = (vectors * own).sum(1)
        turn = np.where(along == 0, turn, along < 0)
    return _rewound(surface, turn)


def own_normals(mesh: Any, *, cells: bool) -> npt.NDArray[np.float64] | None:
    """Return the normals stored in a mesh, unit vectors or zeros; `None` if missing."""
    data = mesh.cell_data if cells else mesh.point_data
    marked = (mesh.GetCellData() if cells else mesh.GetPointData()).GetNormals()
    names = [] if marked is None else [marked.GetName()]
    names += [name for name in list(data) if name.lower() in _NAMES]
    for name in names:
        array = np.asarray(data[name])
        if array.ndim == 2 and array.shape[1] == 3 and array.dtype.kind == "f":
            finite = np.isfinite(array).all(axis=1, keepdims=True)
            return _unit(np.where(finite, array, 0).astype(np.float64))
    return None


def mesh_normals(mesh: Any, *, cells: bool = False) -> Tensor:
    r"""Return the unit normals of a surface mesh.

    Normals stored in the mesh (marked as such, or called `Normals` or `normal`) are
    used as they are. Otherwise they are computed from the faces, see `oriented_faces`:
    neighbors are consistent, and if the surface is closed all point outward; normals of
    an open surface keep the orientation of its faces. The normal at a vertex is the
    normalized mean over its faces.

    Args:
        mesh: A mesh of triangles, quads and polygons.
        cells: Return the normals of the cells instead of those at the vertices.

    Returns:
        Unit normals $[N, 3]$ in float32; zero at vertices without a face and on
        degenerate faces.

    Raises:
        ValueError: If the mesh has cells that are not faces.
    """
    surface = oriented_faces(mesh, "normals")
    if cells:
        normals = _unit(area_vectors(surface)[1])
    else:
        computed = surface.compute_normals(
            cell_normals=False,
            point_normals=True,
            split_vertices=False,
            consistent_normals=False,
            auto_orient_normals=False,
        )
        normals = np.asarray(computed.point_data["Normals"], np.float64)
    own = own_normals(mesh, cells=cells)
    if own is not None:
        normals = np.where(own.any(axis=1, keepdims=True), own, normals)
    return torch.tensor(normals, dtype=torch.float32)


def mesh_areas(mesh: Any, *, cells: bool = False) -> Tensor:
    r"""Return the areas of the faces of a surface mesh, or of its vertices.

    Args:
        mesh: A mesh of triangles, quads and polygons, which need not be convex.
        cells: Return the areas of the cells, the lengths of their area vectors (see
            `polygon_vectors`). Otherwise, each face gives equal shares of its area to
            its corners, so that the sums agree.

    Returns:
        Areas $[N, 1]$ in float32, in the square of the unit of the mesh.

    Raises:
        ValueError: If the mesh has cells that are not faces.
    """
    surface = _faces(mesh, "areas")
    areas = np.linalg.norm(area_vectors(surface)[1], axis=1)
    if not cells:
        offsets, points = cell_corners(surface.GetPolys())
        areas = share_sizes(areas, offsets, points, surface.n_points)
    return torch.tensor(areas, dtype=torch.float32).unsqueeze(1)


def share_sizes(
    sizes: npt.NDArray[np.float64], offsets: Any, points: Any, num_points: int
) -> npt.NDArray[np.float64]:
    """Distribute the size of each cell equally to its corners.

    Args:
        sizes: Size of each cell.
        offsets: Start of the corners of each cell in `points`, and the end of the last.
        points: Corners of all cells.
        num_points: Points of the mesh.
    """
    corners = np.diff(offsets)
    shares = np.repeat(sizes / np.maximum(corners, 1), corners)
    return np.bincount(points, shares, minlength=num_points).astype(np.float64)


def _unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: npt.NDArray[np.float64] = np.zeros_like(vectors)
    np.divide(vectors, length, out=unit, where=length > 0)
    return unit


def _joined(surface: Any) -> Any:
    """Merge coincident points of a surface that has borders."""
    if surface.n_open_edges == 0:
        return surface
    points, place = np.unique(np.asarray(surface.points), axis=0, return_inverse=True)
    if len(points) == surface.n_points:
        return surface
    offsets, corners = cell_corners(surface.GetPolys())
    return _build(points, offsets, place.ravel()[corners])


def _rewound(surface: Any, turn: npt.NDArray[np.bool_]) -> Any:
    """Return the surface with the corners of some polygons reversed."""
    offsets, corners = cell_corners(surface.GetPolys())
    sizes = np.diff(offsets)
    place = np.arange(len(corners))
    reversed_place = np.repeat(offsets[:-1] + offsets[1:] - 1, sizes) - place
    place = np.where(np.repeat(turn, sizes), reversed_place, place)
    return _build(surface.points, offsets, corners[place])


def _build(
    points: Any, offsets: npt.NDArray[np.int64], corners: npt.NDArray[np.int64]
) -> Any:
    surface = pv.PolyData(points)
    surface.verts = np.empty(0, np.int64)
    surface.SetPolys(pv.CellArray.from_arrays(offsets, corners))
    return surface


def _faces(mesh: Any, wanted: str) -> Any:
    """Return only the faces, with vertices and cells in the order of `mesh`."""
    if is_surface(mesh):
        polygons = isinstance(mesh, pv.PolyData)
        return pv.PolyData(mesh.points, faces=mesh.faces if polygons else mesh.cells)
    raise ValueError(
        f"the mesh has cells other than triangles, quads and polygons, which have no "
        f"{wanted}: extract its surface, as faces alone"
    )
