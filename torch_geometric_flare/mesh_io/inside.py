"""Find points inside a body."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyvista as pv
from vtkmodules.vtkFiltersModeling import vtkSelectEnclosedPoints

from torch_geometric_flare.mesh_io.geometry import is_surface, oriented_faces

# A point inside counts as on the surface up to this share of the body's size.
_SKIN = 1e-5


def closed_surface(mesh: Any) -> Any:
    """Return a closed surface as outward triangles in double precision.

    Args:
        mesh: A mesh from `read_mesh`.

    Returns:
        A `pyvista.PolyData`; `None` if the mesh is not a closed surface, such as a
        volume mesh, a cloud or a surface with a hole.
    """
    if isinstance(mesh, pv.PolyData) and not is_surface(mesh):
        mesh = pv.PolyData(mesh.points, faces=mesh.faces)  # without lines and vertices
    if not mesh.n_cells or not is_surface(mesh):
        return None
    faces = oriented_faces(mesh)
    faces.points = faces.points.astype(np.float64)
    surface = faces.triangulate().clean()
    return None if surface.n_open_edges else surface


def check_points(points: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return points in double precision; raise `ValueError` unless they are [N, 3]."""
    array = np.ascontiguousarray(points, np.float64)
    if array.ndim != 2 or array.shape[1] != 3 or not np.isfinite(array).all():
        raise ValueError(
            f"points has shape {array.shape}, expected finite coordinates [N, 3]"
        )
    return array


def points_inside(
    mesh: Any, points: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.bool_] | None:
    """Return which points lie inside a closed surface.

    Points within 1e-5 of the body's diagonal of the surface count as outside.

    Args:
        mesh: A mesh from `read_mesh`.
        points: The points, [N, 3].

    Returns:
        Whether each lies inside, [N]; `None` if the mesh is not a closed surface, such
        as a volume mesh, a cloud or a surface with a hole.

    Raises:
        ValueError: If the points are not finite or of another shape.
    """
    points = check_points(points)
    surface = closed_surface(mesh)
    if surface is None:
        return None
    low, high = np.reshape(surface.bounds, (3, 2)).T
    inside: npt.NDArray[np.bool_]
    inside = ((points > low) & (points < high)).all(axis=1)
    (near,) = np.nonzero(inside)
    if not len(near):
        return inside
    near_points = points[near]
    select = vtkSelectEnclosedPoints()
    select.SetInputData(pv.PolyData(near_points))
    select.SetSurfaceData(surface)
    select.Update()
    selected = pv.wrap(select.GetOutput()).point_data["SelectedPoints"] > 0
    (within,) = np.nonzero(selected)
    if len(within):
        _, closest = surface.find_closest_cell(
            near_points[within], return_closest_point=True
        )
        depth = np.linalg.norm(near_points[within] - closest, axis=1)
        selected[within] = depth > _SKIN * np.linalg.norm(high - low)
    inside[near] = selected
    return inside
