"""A field on a point-sampled surface beside its prediction and their difference."""

from collections.abc import Sequence

import numpy as np
import pyvista as pv
from matplotlib.figure import Figure
from torch import Tensor

from torch_geometric_flare.fields import Field
from torch_geometric_flare.visualization.panels import as_array, make_panels
from torch_geometric_flare.visualization.pictures import arrange_pictures
from torch_geometric_flare.visualization.rendering import (
    View,
    cone_glyphs,
    cut_margin,
    random_subset,
    render,
    sphere_glyphs,
)
from torch_geometric_flare.visualization.triangles import check_cells

# Directions from the surface to the camera; flow along +x, z up, nose at small x.
FRONT_VIEW: View = (-1.0, -0.95, 0.5)
"""Towards the camera: from ahead, to the side and above."""
SIDE_VIEW: View = (0.0, -1.0, 0.0)
"""Towards the camera: from the side."""
REAR_VIEW: View = (1.0, -0.95, 0.5)
"""Towards the camera: from behind, to the side and above."""


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
    r"""Draw truth, prediction and error (prediction − truth) on a surface.

    One row for each view, three panels a row. Truth and prediction share their
    colours, which span the 1st to the 99th percentile of the truth; the error has a
    diverging scale, symmetric about zero, up to the 99th percentile of its size.

    With `cells` that surface is painted. Points without them need no connectivity: with
    `normal` and `area` each is drawn as a flat cone along its normal that covers its
    share of the surface, so that the surface looks closed and every place has the
    colour of its nearest point; without them as a sphere, sized by the median distance
    between neighbours. Rendering happens off screen and needs no display.

    Args:
        pos: Points on the surface, in metres, z up.
        truth: Reference values at the points; grey where they are not finite.
        prediction: Predicted values at the points; values that are not finite are drawn
            in grey.
        field: Name and unit, for the colour bars. Of a vector its length is drawn, and
            of the error the length of the difference.
        title: Heading of the figure; say here whether the data are simulated.
        normal: Outward unit normals; used together with `area`.
        area: Area that each point stands for, in square metres.
        cells: Points of each triangle or quad, in order around it.
        views: Direction from the surface to the camera, one for each row.
        max_points: With more points than this and no `cells`, a random subset of this
            size (the same in every call) is drawn; the colour ranges still come from
            all.
        flow: Direction of the flow, drawn as an arrow; none by default.

    Shapes:
        - `pos`: $(N, 3)$
        - **truth, prediction:** $(N, C)$, or $(N)$ with one channel
        - `normal`: $(N, 3)$
        - `area`: $(N)$ or $(N, 1)$
        - `cells`: $(M, 3)$ or $(M, 4)$

    Returns:
        A figure to be saved with `figure.savefig`; no global Matplotlib state is used.

    Raises:
        ValueError: If shapes disagree, if `pos`, `normal` or `area` is not finite or
            `truth` is so nowhere, if only one of `normal` and `area` is given, if a
            cell names a point that does not exist, or if `views` or `max_points` is
            unusable.
    """
    if len(views) == 0 or not np.any(views, axis=1).all() or max_points < 1:
        raise ValueError(
            "views must hold directions other than (0, 0, 0), at least one, and "
            f"max_points must be positive; got {views=} and {max_points=}"
        )
    if (normal is None) != (area is None):
        raise ValueError("normal and area belong together: give both or neither")
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
            raise ValueError("area must not be negative")
        shape = cone_glyphs(points[chosen], normals[chosen], shares[chosen])
    pictures = [
        [
            render(
                shape,
                panel.values[chosen],
                panel.limits,
                panel.cmap,
                view,
                flow=flow,
            )
            for panel in panels
        ]
        for view in views
    ]
    return arrange_pictures([cut_margin(row) for row in pictures], panels, title)
