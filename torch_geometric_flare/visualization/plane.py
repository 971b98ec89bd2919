"""Plots of a field in the plane, its prediction and their difference."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.tri import CubicTriInterpolator, Triangulation, UniformTriRefiner
from torch import Tensor

from torch_geometric_flare.fields import Field
from torch_geometric_flare.visualization.panels import (
    Array,
    Panel,
    as_array,
    color_bar,
    make_panels,
)
from torch_geometric_flare.visualization.rendering import random_subset
from torch_geometric_flare.visualization.triangles import (
    triangles_of_cells,
    triangles_of_points,
)

Window = tuple[tuple[float, float], tuple[float, float]]

_NUM_LEVELS = 41
# Linear triangles draw thin layers with jagged edges. Cubic triangles are cheap up to
# this number of points; with more points, the edges are fine enough.
_FEW_POINTS = 2_000
_HALVINGS = 2  # number of bisections of the edges of a cubic triangle
_WIDE = 2.2  # aspect ratio above which panels are stacked vertically
_PANEL = 5.0  # width or height of a panel, in inches


def plot_plane_comparison(
    pos: Tensor,
    truth: Tensor,
    prediction: Tensor,
    field: Field,
    *,
    title: str,
    grid: tuple[int, int] | None = None,
    cells: Tensor | None = None,
    window: Window | None = None,
    max_points: int = 200_000,
    body: Tensor | None = None,
    axes_names: tuple[str, str] = ("x", "y"),
) -> Figure:
    r"""Plot truth, prediction and error (prediction − truth) in the plane.

    Three panels with equal axes show filled contours, side by side or, for wide
    domains, stacked vertically. Truth and prediction share their colors, which span the
    1st to the 99th percentile of the truth. The error has a diverging scale, symmetric
    around zero, up to the 99th percentile of its magnitude.

    Contours are drawn on a structured grid (straight or curved), on cells, or else on
    the Delaunay triangulation of the points, without triangles much longer than
    adjacent ones, which span holes of the domain. Points that span no triangle are
    drawn as dots. With cells and up to 2,000 points, interpolation is cubic: it is
    exact at the points and does not exceed their range. Otherwise, it is linear.

    Args:
        pos: Points of the plane.
        truth: Reference values at the points; gray where they are not finite.
        prediction: Predicted values at the points; gray where they are not finite.
        field: Name and unit for the color bars. For vectors, the magnitude is plotted,
            and for their error, the magnitude of the difference.
        title: Title of the figure; state here whether the data are simulated.
        grid: Rows and columns of a structured grid with points in row-major order.
        cells: Points of each triangle or quad, in order around it; ignored if `grid` is
            given.
        window: Part of the plane to show, `((x0, x1), (y0, y1))`. Default: all.
        max_points: Maximum number of scattered points (without `grid` and `cells`). Of
            more points, a random subset of this size is plotted, the same in every
            call.
        body: Outline of a body that the plane intersects, drawn over the fields:
            corners of a polygon, in order around it.
        axes_names: Names of the axes, such as `("x", "z")`.

    Shapes:
        - `pos`: $(N, 2)$
        - `body`: $(K, 2)$
        - **truth, prediction:** $(N, C)$, or $(N)$ with one channel
        - `cells`: $(M, 3)$ or $(M, 4)$

    Returns:
        The figure; save it with `figure.savefig`. No global Matplotlib state is used.

    Raises:
        ValueError: If shapes disagree, `pos` is not finite, `truth` is finite nowhere,
            a cell refers to a point that does not exist, or `window` or `max_points` is
            invalid.
    """
    points = as_array(pos, "pos", None, 2)
    outline = None if body is None else as_array(body, "body", None, 2)
    panels = make_panels(truth, prediction, field, len(points))
    if grid is not None and (min(grid) < 2 or grid[0] * grid[1] != len(points)):
        raise ValueError(
            f"grid must have at least 2 rows and columns and {len(points)} points, "
            f"got {tuple(grid)}"
        )
    if max_points < 1:
        raise ValueError(f"max_points must be positive, got {max_points}")
    (left, right), (bottom, top) = window or _bounds(points)
    if not (left < right and bottom < top):
        raise ValueError(
            f"window must be ((x0, x1), (y0, y1)), ascending, got {window}"
        )
    triangles, smooth = None, False
    if grid is None and cells is not None:
        triangles = triangles_of_cells(points, cells)
        smooth = len(points) <= _FEW_POINTS
    elif grid is None:
        chosen = random_subset(len(points), max_points)
        points = points[chosen]
        first, second, third = (p._replace(values=p.values[chosen]) for p in panels)
        panels = first, second, third
        triangles = triangles_of_points(points)

    aspect = (right - left) / (top - bottom)
    figure, axes = _make_figure(aspect)
    figure.suptitle(title, fontsize=17)
    for axis, panel in zip(axes, panels, strict=True):
        axis.set_facecolor("lightgrey" if np.isnan(panel.values).any() else "white")
        _draw(axis, points, panel, grid, triangles, smooth)
        if outline is not None:
            axis.fill(*outline.T, facecolor="dimgrey", edgecolor="black", zorder=3)
        axis.set_title(panel.heading, fontsize=15)
        axis.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
        axis.tick_params(labelsize=11)
        axis.locator_params(nbins=5)
        axis.set_xlabel(axes_names[0], fontsize=13)
        axis.set_ylabel(axes_names[1], fontsize=13)
        axis.label_outer()
    bar = {"location": "right" if aspect > _WIDE else "bottom", "aspect": 30}
    color_bar(figure, axes[:2], panels[0], shrink=0.6, **bar)
    color_bar(figure, axes[2:], panels[2], shrink=0.9, **bar)
    return figure


def _bounds(points: Array) -> Window:
    lower, upper = points.min(axis=0).astype(float), points.max(axis=0).astype(float)
    # Add a margin for points on a line and for a single point.
    margin = np.where(upper > lower, 0.0, 0.5 * ((upper - lower).max() or 1.0))
    lower, upper = lower - margin, upper + margin
    return (lower[0], upper[0]), (lower[1], upper[1])


def _make_figure(aspect: float) -> tuple[Figure, list[Axes]]:
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    if aspect > _WIDE:
        height = max(2 * _PANEL / aspect, 1.0)
        figure = Figure(
            figsize=(2 * _PANEL + 2.2, 3 * (height + 0.6) + 1), layout=layout
        )
        axes = figure.subplots(3, 1, sharex=True)
    else:
        height = min(_PANEL / aspect, 3 * _PANEL)
        figure = Figure(figsize=(3 * _PANEL + 0.8, height + 2.4), layout=layout)
        axes = figure.subplots(1, 3, sharey=True)
    return figure, list(axes)


def _draw(
    axis: Axes,
    points: Array,
    panel: Panel,
    grid: tuple[int, int] | None,
    triangles: Triangulation | None,
    smooth: bool,
) -> None:
    levels = np.linspace(*panel.limits, _NUM_LEVELS)
    colors = {"levels": levels, "cmap": panel.cmap, "extend": "both"}
    values = np.ma.masked_invalid(panel.values)
    if grid is not None:
        x, y = points.reshape(*grid, 2).transpose(2, 0, 1)
        axis.contourf(x, y, values.reshape(grid), **colors)
    elif triangles is not None:
        finite = np.isfinite(panel.values)[triangles.triangles].all(axis=1)
        hidden = ~finite if triangles.mask is None else ~finite | triangles.mask
        if not hidden.all():
            shown = Triangulation(triangles.x, triangles.y, triangles.triangles, hidden)
            filled = values.filled(0.0)
            if smooth:
                shown, filled = _refine(shown, filled)
            axis.tricontourf(shown, filled, **colors)
    else:
        low, high = panel.limits
        axis.scatter(
            points[:, 0], points[:, 1], c=values, vmin=low, vmax=high, cmap=panel.cmap
        )


def _refine(triangles: Triangulation, values: Array) -> tuple[Triangulation, Array]:
    """Return finer triangles with cubically interpolated values."""
    visible = triangles.get_masked_triangles()
    x, y = triangles.x[visible], triangles.y[visible]
    first, second = ((x[:, k] - x[:, 0], y[:, k] - y[:, 0]) for k in (1, 2))
    if (first[0] * second[1] == first[1] * second[0]).any():
        return triangles, values  # cubic interpolation needs nonzero areas
    cubic = CubicTriInterpolator(triangles, values, kind="geom")
    finer, refined = UniformTriRefiner(triangles).refine_field(
        values, triinterpolator=cubic, subdiv=_HALVINGS
    )
    vertex_values = values[np.unique(visible)]
    return finer, np.clip(refined, vertex_values.min(), vertex_values.max())
