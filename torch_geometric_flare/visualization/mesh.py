"""A predicted field on the surface of its own mesh."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyvista as pv
import torch
from matplotlib.figure import Figure

from torch_geometric_flare.fields import Field
from torch_geometric_flare.mesh_io import find_location
from torch_geometric_flare.visualization.panels import Panel, band_panel, make_panels
from torch_geometric_flare.visualization.pictures import arrange_pictures
from torch_geometric_flare.visualization.rendering import (
    View,
    cut_margin,
    random_subset,
    render,
    sphere_glyphs,
)
from torch_geometric_flare.visualization.surface import FRONT_VIEW, REAR_VIEW

# Towards the camera, where a mesh has the same x, y or z everywhere.
_FLAT_VIEWS: tuple[View, ...] = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))
_MOST_BALLS = 100_000  # of the points of a cloud


def plot_mesh(
    mesh: Any,
    field: Field,
    *,
    title: str,
    location: str | None = None,
    views: Sequence[View] | None = None,
    flow: View | None = None,
) -> Figure:
    """Draw a field on the outer surface of a mesh, and its truth and error if known.

    A mesh without faces is drawn as a ball at each point, of up to 100,000 of them.

    The mesh is one of `Surrogate.predict_mesh`: the prediction is the array called as
    the field is, and the truth, where there is one, `<name>_true`. Then the panels are
    truth, prediction and error, as in `plot_surface_comparison`. Where the truth is not
    finite, it and the error are grey. A band, `<name>_band`, has a panel too where its
    half width varies.

    Args:
        mesh: A PyVista mesh.
        field: Name, channels and unit. Of a vector the length is drawn.
        title: Heading of the figure; say here whether the data are simulated.
        location: Where the arrays lie: `"point"` or `"cell"`. By default where the mesh
            was predicted on, or else where it has such an array.
        views: Direction from the mesh to the camera, one for each row; by default from
            ahead and behind, and from the side that shows it where the mesh is flat.
        flow: Direction of the flow, drawn as an arrow; none by default.

    Returns:
        A figure to be saved with `figure.savefig`.

    Raises:
        ValueError: If an array is missing or does not fit the field.
    """
    location = find_location(mesh, field.name, location)
    shown = mesh_panels(mesh, field, location)
    low, high = np.reshape(mesh.bounds, (3, 2)).T
    flat = [view for view, same in zip(_FLAT_VIEWS, low == high, strict=True) if same]
    chosen = views or flat[-1:] or (FRONT_VIEW, REAR_VIEW)
    shape = mesh_triangles(mesh, location)
    if not shape.n_cells:  # a cloud
        places = random_subset(mesh.n_points, _MOST_BALLS)
        shape = sphere_glyphs(np.asarray(mesh.points, np.float32)[places])
        shape.point_data["point"] = places[shape.point_data["point"]]
    pictures = [
        cut_margin(
            [
                render(shape, panel.values, panel.limits, panel.cmap, view, flow=flow)
                for panel in shown
            ]
        )
        for view in chosen
    ]
    return arrange_pictures(pictures, shown, title)


def mesh_panels(mesh: Any, field: Field, location: str) -> Sequence[Panel]:
    """Return truth, prediction and error on a mesh, or the prediction alone.

    The half width of a band about the prediction follows where it varies.

    Args:
        mesh: A PyVista mesh, as `Surrogate.predict_mesh` returns it.
        field: Name, channels and unit.
        location: Where the arrays lie: `"point"` or `"cell"`.

    Raises:
        ValueError: If an array is missing or does not fit the field.
    """
    data = mesh.cell_data if location == "cell" else mesh.point_data
    if field.name not in data:
        raise ValueError(
            f"the mesh has no {location} data {field.name!r}, but {list(data)}"
        )
    predicted = torch.tensor(np.asarray(data[field.name], np.float32))
    known = data.get(f"{field.name}_true")
    truth = predicted if known is None else torch.tensor(np.asarray(known, np.float32))
    if not truth.isfinite().any():
        known, truth = None, predicted
    panels = make_panels(truth, predicted, field, len(predicted))
    shown: list[Panel] = list(panels[1:2] if known is None else panels)
    band = data.get(f"{field.name}_band")
    if band is not None and np.ptp(band) > 0:
        shown.append(band_panel(band, field))
    return shown


def mesh_triangles(mesh: Any, location: str) -> pv.PolyData:
    """Return triangles whose array `point` says whose value each vertex has."""
    bare = mesh.copy()
    bare.clear_data()
    kind = bare.cell_data if location == "cell" else bare.point_data
    kind["point"] = np.arange(mesh.n_cells if location == "cell" else mesh.n_points)
    if not isinstance(bare, pv.PolyData):
        bare = bare.extract_surface(algorithm="dataset_surface")
    surface = bare.triangulate()
    if location == "point":
        return surface
    # Vertices of their own for each cell, which has one colour.
    corners = surface.points[surface.regular_faces.ravel()]
    apart = pv.PolyData.from_regular_faces(
        corners, np.arange(len(corners)).reshape(-1, 3)
    )
    apart.point_data["point"] = np.repeat(surface.cell_data["point"], 3)
    return apart
