"""Distances and directions from a body to points."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyvista as pv
import torch
from torch import Tensor
from vtkmodules.vtkCommonCore import vtkDoubleArray
from vtkmodules.vtkFiltersCore import vtkImplicitPolyDataDistance

from torch_geometric_flare.fields import Field, Fields
from torch_geometric_flare.mesh_io.inside import check_points, closed_surface

Array = npt.NDArray[np.float64]

_ON_IT = 1e-9  # as a share of the size of the body


def surface_distance(mesh: Any, points: npt.NDArray[Any]) -> tuple[Array, Array]:
    r"""Return the signed distance of points to a closed surface, and its gradient.

    Uses VTK's implicit distance, which is exact for triangles.

    Args:
        mesh: A mesh from `read_mesh`.
        points: The points, [N, 3].

    Returns:
        The distances, [N], negative inside, and their gradients, unit vectors [N, 3]:
        away from the closest point outside, toward it inside, and the normal on the
        surface.

    Raises:
        ValueError: If the mesh is not a closed surface, or the points are not finite or
            of another shape.
    """
    points = check_points(points)
    surface = closed_surface(mesh)
    if surface is None:
        raise ValueError(
            "the mesh is not a closed surface, so that no signed_distance to it can be "
            "computed: close it, or give the distance at each point"
        )
    if len(points) == 0:
        return np.empty(0), np.empty((0, 3))
    implicit = vtkImplicitPolyDataDistance()
    implicit.SetInput(surface)
    values = vtkDoubleArray()
    implicit.FunctionValue(pv.convert_array(points), values)
    distance = np.array(pv.convert_array(values), np.float64)
    cells, closest = surface.find_closest_cell(points, return_closest_point=True)
    low, high = np.reshape(surface.bounds, (3, 2)).T
    on_it = np.abs(distance) <= _ON_IT * np.linalg.norm(high - low)
    direction = (points - closest) / np.where(on_it, 1.0, distance)[:, None]
    normals = surface.compute_normals(
        point_normals=False, auto_orient_normals=False, consistent_normals=False
    ).cell_data["Normals"]
    direction[on_it] = normals[cells[on_it]]
    return distance, direction


def distance_features(
    mesh: Any, points: npt.NDArray[Any], wanted: Fields, scale: float = 1.0
) -> dict[str, Tensor]:
    """Return the named inputs that are distances from points to a body.

    These are `signed_distance`, of one channel, and `distance_direction`, of three,
    see `surface_distance`.

    Args:
        mesh: A mesh from `read_mesh`.
        points: The points, [N, 3], in the unit of the mesh.
        wanted: Inputs of a model; others are ignored.
        scale: Length of one unit of the mesh in units of the training data.

    Returns:
        The inputs by name, [N, C] each, in float32.

    Raises:
        ValueError: If one is wanted and the mesh is not a closed surface.
    """
    fields = (Field("signed_distance"), Field("distance_direction", 3))
    requested = {(field.name, field.channels) for field in wanted}
    names = [f.name for f in fields if (f.name, f.channels) in requested]
    if not names:
        return {}
    distance, direction = surface_distance(mesh, points)
    columns = scale * distance[:, None], direction
    return {
        field.name: torch.tensor(column, dtype=torch.float32)
        for field, column in zip(fields, columns, strict=True)
        if field.name in names
    }
