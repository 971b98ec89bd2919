"""Plots of a predicted field on the surface of its mesh."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyvista as pv
import torch
from matplotlib.figure import Figure

from torch_geometric_flare.fields import Field
from torch_geometric_flare.mesh_io import find_location
from torch_geometric_flare.visualization.panels import Panel, band_panel, make_panels
from torch_geometric_flare.visualization.pictures import plot_shapes
from torch_geometric_flare.visualization.rendering import (
    View,
    random_subset,
    sphere_glyphs,
)
from torch_geometric_flare.visualization.surface import FRONT_VIEW, REAR_VIEW

# Directions to the camera for meshes with constant x, y or z.
_FLAT_VIEWS: tuple[View, ...] = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))
_MOST_BALLS = 100_000  # maximum number of spheres for a point cloud


def plot_mesh(
    mesh: Any,
    field: Field,
    *,
    title: str,
    location: str | None = None,
    views: Sequence[View] | None = None,
    flow: View | None = None,
) -> Figure:
    """Plot a field on the outer surface of a mesh, and its truth and error if known.

    A mesh without faces is drawn as spheres at up to 100,000 points.

    The mesh comes from `Surrogate.predict_mesh`: the prediction is the array with the
    name of the field. If there is a truth, `<name>_true`, the panels are truth,
    prediction and error, as in `plot_surface_comparison`. Where the truth is not
    finite, it and the error are gray. A band, `<name>_band`, has a panel if its half
    width varies.

    Args:
        mesh: A PyVista mesh.
        field: Name, channels and unit. For vectors, the magnitude is plotted.
        title: Title of the figure; state here whether the data are simulated.
        location: Location of the arrays, `"point"` or `"cell"`. Default: where the mesh
            was predicted on, or else where it has such an array.
        views: Direction from the mesh to the camera for each row. Default: from ahead
            and behind or, for a flat mesh, perpendicular to it.
        flow: Direction of the flow, drawn as an arrow. Default: no arrow.

    Returns:
        The figure; save it with `figure.savefig`.

    Raises:
        ValueError: If an array is missing or does not fit the field.
    """
    location = find_location(mesh, field.name, location)
    panels = mesh_panels(mesh, field, location)
    low, high = np.reshape(mesh.bounds, (3, 2)).T
    flat = [view for view, same in zip(_FLAT_VIEWS, low == high, strict=True) if same]
    directions = views or flat[-1:] or (FRONT_VIEW, REAR_VIEW)
    shape = mesh_triangles(mesh, location)
    if not shape.n_cells:  # a point cloud
        chosen_points = random_subset(mesh.n_points, _MOST_BALLS)
        shape = sphere_glyphs(np.asarray(mesh.points, np.float32)[chosen_points])
        shape.point_data["point"] = chosen_points[shape.point_data["point"]]
    return plot_shapes([shape] * len(panels), panels, title, directions, flow=flow)


def mesh_panels(mesh: Any, field: Field, location: str) -> Sequence[Panel]:
    """Return the panels of truth, prediction and error, or only the prediction.

    The half width of a prediction band follows if it varies.

    Args:
        mesh: A PyVista mesh from `Surrogate.predict_mesh`.
        field: Name, channels and unit.
        location: Location of the arrays, `"point"` or `"cell"`.

    Raises:
        ValueError: If an array is missing or does not fit the field.
    """
    data = mesh.cell_data if location == "cell" else mesh.point_data
    if field.name not in data:
        raise ValueError(
            f"the mesh has no {location} data {field.name!r}, only {list(data)}"
        )
    predicted = torch.tensor(np.asarray(data[field.name], np.float32))
    true_values = data.get(f"{field.name}_true")
    truth = predicted
    if true_values is not None:
        truth = torch.tensor(np.asarray(true_values, np.float32))
    if not truth.isfinite().any():
        true_values, truth = None, predicted
    panels = make_panels(truth, predicted, field, len(predicted))
    selected: list[Panel] = list(panels[1:2] if true_values is None else panels)
    band = data.get(f"{field.name}_band")
    if band is not None and np.ptp(band) > 0:
        selected.append(band_panel(band, field))
    return selected


def mesh_triangles(mesh: Any, location: str) -> pv.PolyData:
    """Return triangles whose array `point` is the index of each vertex's value."""
    bare = mesh.copy()
    bare.clear_data()
    kind = bare.cell_data if location == "cell" else bare.point_data
    kind["point"] = np.arange(mesh.n_cells if location == "cell" else mesh.n_points)
    if not isinstance(bare, pv.PolyData):
        bare = bare.extract_surface(algorithm="dataset_surface")
    surface = bare.triangulate()
    if location == "point":
        return surface
    # Separate vertices for each cell, which has a single color.
    corners = surface.points[surface.regular_faces.ravel()]
    apart = pv.PolyData.from_regular_faces(
        corners, np.arange(len(corners)).reshape(-1, 3)
    )
    apart.point_data["point"] = np.repeat(surface.cell_data["point"], 3)
    return apart
