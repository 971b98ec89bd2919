"""Extract the visible, used and non-empty part of a mesh."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyvista as pv
from vtkmodules import vtkCommonDataModel as vtk

from torch_geometric_flare.mesh_io.polygons import cell_corners

_GHOSTS = vtk.vtkDataSetAttributes.GhostArrayName()
# Cells duplicated in another piece or a finer level, and blanked cells.
_HIDDEN_CELL = (
    vtk.vtkDataSetAttributes.DUPLICATECELL
    | vtk.vtkDataSetAttributes.REFINEDCELL
    | vtk.vtkDataSetAttributes.HIDDENCELL
)
_HIDDEN_POINT = vtk.vtkDataSetAttributes.HIDDENPOINT

Mask = npt.NDArray[np.bool_]


def visible_part(mesh: Any) -> Any:
    """Return the cells and points of a mesh that carry data.

    Cells that VTK does not show are removed: blanked cells, cells with a blanked point,
    ghost cells, which belong to another piece of the mesh, and empty cells. Vertices
    and lines that a mesher writes in addition to faces and volumes are removed too, and
    so are points without a cell, whose values no solver computes.

    Args:
        mesh: A `pyvista.PolyData` or `pyvista.UnstructuredGrid`. A mesh of only
            vertices and lines keeps them, and a mesh without cells keeps its points.

    Returns:
        The mesh itself if all of it is data, otherwise a copy of the part with its
        arrays.

    Raises:
        ValueError: If nothing is left.
    """
    surface = isinstance(mesh, pv.PolyData)
    if not mesh.n_cells or (surface and mesh.GetNumberOfStrips()):
        return mesh
    dimension = _dimensions(mesh)
    solid = dimension >= min(2, dimension.max(initial=0))
    visible = solid & _not_hidden(mesh)
    if not visible.any():
        raise ValueError("the mesh has no cells but hidden, ghost and empty ones")
    used = np.zeros(mesh.n_points, bool)
    corner, of_cell = _corners(mesh)
    used[corner[visible[of_cell]]] = True
    if visible.all() and used.all():
        return mesh
    part = (
        _part_of_surface(mesh, visible, used)
        if surface
        else _part_of_grid(mesh, visible)
    )
    for data in (part.cell_data, part.point_data):
        if _GHOSTS in data:
            del data[_GHOSTS]
    return part


def _dimensions(mesh: Any) -> npt.NDArray[np.int64]:
    """Return the dimension of each cell, -1 if empty."""
    if isinstance(mesh, pv.PolyData):
        numbers = (mesh.GetNumberOfVerts(), mesh.GetNumberOfLines())
        return np.repeat([0, 1, 2], [*numbers, mesh.n_cells - sum(numbers)])
    types = np.asarray(mesh.celltypes)
    kinds, place = np.unique(types, return_inverse=True)
    dimensions = [
        -1
        if kind == vtk.VTK_EMPTY_CELL
        else vtk.vtkGenericCell.InstantiateCell(int(kind)).GetCellDimension()
        for kind in kinds
    ]
    return np.array(dimensions, np.int64)[place]


def _not_hidden(mesh: Any) -> Mask:
    visible = np.ones(mesh.n_cells, bool)
    if _GHOSTS in mesh.cell_data:
        visible &= (np.asarray(mesh.cell_data[_GHOSTS]) & _HIDDEN_CELL) == 0
    if _GHOSTS in mesh.point_data:
        blank = (np.asarray(mesh.point_data[_GHOSTS]) & _HIDDEN_POINT) != 0
        corner, of_cell = _corners(mesh)
        visible[of_cell[blank[corner]]] = False
    return visible


def _corners(mesh: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the points of all cells and the cell of each."""
    lists = (
        (mesh.GetVerts(), mesh.GetLines(), mesh.GetPolys())
        if isinstance(mesh, pv.PolyData)
        else (mesh.GetCells(),)
    )
    points, cells, first = [], [], 0
    for part in lists:
        number = part.GetNumberOfCells()
        if number:
            offsets, corners = cell_corners(part)
            points.append(corners)
            cells.append(np.repeat(np.arange(first, first + number), np.diff(offsets)))
        first += number
    if not points:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate(points), np.concatenate(cells)


def _part_of_surface(mesh: Any, visible: Mask, used: Mask) -> Any:
    """Return some cells of a surface; `extract_cells` would return a grid."""
    number = np.cumsum(used) - 1
    part = pv.PolyData(np.asarray(mesh.points)[used])
    part.verts = np.empty(0, np.int64)
    first = 0
    for cells, put in (
        (mesh.GetVerts(), part.SetVerts),
        (mesh.GetLines(), part.SetLines),
        (mesh.GetPolys(), part.SetPolys),
    ):
        count = cells.GetNumberOfCells()
        kept = visible[first : first + count]
        first += count
        if not kept.any():
            continue
        offsets, corners = cell_corners(cells)
        sizes = np.diff(offsets)
        offsets = np.concatenate([[0], np.cumsum(sizes[kept])])
        corners = number[corners[np.repeat(kept, sizes)]]
        put(pv.CellArray.from_arrays(offsets, corners))
    for source, target, mask in (
        (mesh.cell_data, part.cell_data, visible),
        (mesh.point_data, part.point_data, used),
    ):
        for name in list(source):
            target[name] = source[name][mask]
        if source.active_normals_name in target:
            target.active_normals_name = source.active_normals_name
    part.GetFieldData().ShallowCopy(mesh.GetFieldData())
    return part


def _part_of_grid(mesh: Any, visible: Mask) -> Any:
    part = mesh.extract_cells(np.flatnonzero(visible))
    for data in (part.cell_data, part.point_data):
        for name in ("vtkOriginalCellIds", "vtkOriginalPointIds"):
            if name in data:
                del data[name]
    return part
