"""Plots of a field on a surface, its prediction and their difference."""

from collections.abc import Sequence

import numpy as np
import pyvista as pv
from matplotlib.figure import Figure
from torch import Tensor

from torch_geometric_flare.fields import Field
from torch_geometric_flare.visualization.panels import as_array, make_panels
from torch_geometric_flare.visualization.pictures import plot_shapes
from torch_geometric_flare.visualization.rendering import (
    View,
    cone_glyphs,
    random_subset,
    sphere_glyphs,
)
from torch_geometric_flare.visualization.triangles import check_cells

# Directions from the surface to the camera; flow along +x, z up, nose at small x.
FRONT_VIEW: View = (-1.0, -0.95, 0.5)
"""Direction to the camera: ahead, to the side and above."""
SIDE_VIEW: View = (0.0, -1.0, 0.0)
"""Direction to the camera: to the side."""
REAR_VIEW: View = (1.0, -0.95, 0.5)
"""Direction to the camera: behind, to the side and above."""


def plot_surface_comparison(
    pos: Tensor,
    truth: Tensor,
    prediction: Tensor,
    field: Field,
    *,
    title: str,
    normal: Tensor | None = None,
    area: Tensor | None = None,
    cells: Tensor | None = None,
    views: Sequence[View] = (FRONT_VIEW, REAR_VIEW),
    max_points: int = 100_000,
    flow: View | None = None,
) -> Figure:
    r"""Plot truth, prediction and error (prediction − truth) on a surface.

    Each view is a row of three panels. Truth and prediction share their colors, which
    span the 1st to the 99th percentile of the truth. The error has a diverging scale,
    symmetric around zero, up to the 99th percentile of its magnitude.

    With `cells`, their surface is colored. Without `cells`, points need no
    connectivity: with `normal` and `area`, each point is drawn as a flat cone along its
    normal that covers its area, so that the surface looks closed and each location has
    the color of its nearest point. Otherwise, points are drawn as spheres, sized by the
    median distance between neighbors. Rendering is off-screen and needs no display.

    Args:
        pos: Points on the surface in meters, z up.
        truth: Reference values at the points; gray where they are not finite.
        prediction: Predicted values at the points; gray where they are not finite.
        field: Name and unit for the color bars. For vectors, the magnitude is plotted,
            and for their error, the magnitude of the difference.
        title: Title of the figure; state here whether the data are simulated.
        normal: Outward unit normals; used together with `area`.
        area: Area of each point in square meters.
        cells: Points of each triangle or quad, in order around it.
        views: Direction from the surface to the camera for each row.
        max_points: Maximum number of points without `cells`. Of more points, a random
            subset of this size is plotted, the same in every call; the color limits
            still use all points.
        flow: Direction of the flow, drawn as an arrow. Default: no arrow.

    Shapes:
        - `pos`: $(N, 3)$
        - **truth, prediction:** $(N, C)$, or $(N)$ with one channel
        - `normal`: $(N, 3)$
        - `area`: $(N)$ or $(N, 1)$
        - `cells`: $(M, 3)$ or $(M, 4)$

    Returns:
        The figure; save it with `figure.savefig`. No global Matplotlib state is used.

    Raises:
        ValueError: If shapes disagree, `pos`, `normal` or `area` is not finite, `truth`
            is finite nowhere, only one of `normal` and `area` is given, a cell refers
            to a point that does not exist, or `views` or `max_points` is invalid.
    """
    if len(views) == 0 or not np.any(views, axis=1).all() or max_points < 1:
        raise ValueError(
            "views must hold at least one direction and no (0, 0, 0), and "
            f"max_points must be positive; got {views=} and {max_points=}"
        )
    if (normal is None) != (area is None):
        raise ValueError("normal and area belong together: pass both or neither")
    points = as_array(pos, "pos", None, 3)
    panels = make_panels(truth, prediction, field, len(points))
    most = max_points if cells is None else len(points)
    chosen = random_subset(len(points), most)
    if cells is not None:
        corners = check_cells(cells, len(points))
        shape = pv.PolyData.from_regular_faces(points, corners)
        shape.point_data["point"] = np.arange(len(points))
    elif normal is None or area is None:
        shape = sphere_glyphs(points[chosen])
    else:
        normals = as_array(normal, "normal", len(points), 3)
        shares = as_array(area, "area", len(points)) * (len(points) / len(chosen))
        if (shares < 0).any():
            raise ValueError("area must be nonnegative")
        shape = cone_glyphs(points[chosen], normals[chosen], shares[chosen])
    shape.point_data["point"] = chosen[shape.point_data["point"]]
    return plot_shapes([shape] * len(panels), panels, title, views, flow=flow)
