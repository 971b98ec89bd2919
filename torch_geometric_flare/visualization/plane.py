"""A field in the plane beside its prediction and their difference."""

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
    colour_bar,
    make_panels,
)
from torch_geometric_flare.visualization.rendering import random_subset
from torch_geometric_flare.visualization.triangles import (
    triangles_of_cells,
    triangles_of_points,
)

Window = tuple[tuple[float, float], tuple[float, float]]

_NUM_LEVELS = 41
# Linear triangles draw a layer as thin as they are with saw teeth. Cubic ones of so few
# points are cheap, and more points have finer teeth.
_FEW_POINTS = 2_000
_HALVINGS = 2  # of the edges of a cubic triangle
_WIDE = 2.2  # width over height from which panels stand one above the other
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
    r"""Draw truth, prediction and error (prediction − truth) in the plane.

    Filled contours in three panels with equal axes, side by side, or one above the
    other where the domain is wide. Truth and prediction share their colours, which span
    the 1st to the 99th percentile of the truth; the error has a diverging scale,
    symmetric about zero, up to the 99th percentile of its size.

    Contours are drawn between the points of a structured grid (straight or curved), of
    given cells, or else of the Delaunay triangulation of the points, without triangles
    much longer than those around them, which span holes of the domain. Points that span
    no triangle are drawn as dots. Between up to 2,000
    points with given cells the picture is cubic: it has their values at the points and
    none beyond the range of these. Otherwise it is linear.

    Args:
        pos: Points of the plane.
        truth: Reference values at the points; grey where they are not finite.
        prediction: Predicted values at the points; where they are not finite, the
            picture is grey.
        field: Name and unit, for the colour bars. Of a vector its length is drawn, and
            of the error the length of the difference.
        title: Heading of the figure; say here whether the data are simulated.
        grid: Rows and columns of a structured grid whose points follow row by row.
        cells: Points of each triangle or quad, in order around it; used without `grid`.
        window: Part of the plane to show, as `((x0, x1), (y0, y1))`; all by default.
        max_points: Of more scattered points than this (neither `grid` nor `cells`), a
            random subset of this size is drawn, the same in every call.
        body: Outline of a body that the plane cuts, drawn over the fields: corners of a
            polygon, in order around it.
        axes_names: What the axes are called, such as `("x", "z")`.

    Shapes:
        - `pos`: $(N, 2)$
        - `body`: $(K, 2)$
        - **truth, prediction:** $(N, C)$, or $(N)$ with one channel
        - `cells`: $(M, 3)$ or $(M, 4)$

    Returns:
        A figure to be saved with `figure.savefig`; no global Matplotlib state is used.

    Raises:
        ValueError: If shapes disagree, `pos` is not finite or `truth` so nowhere, a
            cell names a
            point that does not exist, or `window` or `max_points` is unusable.
    """
    points = as_array(pos, "pos", None, 2)
    outline = None if body is None else as_array(body, "body", None, 2)
    panels = make_panels(truth, prediction, field, len(points))
    if grid is not None and (min(grid) < 2 or grid[0] * grid[1] != len(points)):
        raise ValueError(
            f"grid must have at least 2 rows and columns, {len(points)} points "
            f"together, got {tuple(grid)}"
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
        axis.label_outer()
        axis.set_xlabel(axes_names[0], fontsize=13)
        axis.set_ylabel(axes_names[1], fontsize=13)
        axis.label_outer()
    bar = {"location": "right" if aspect > _WIDE else "bottom", "aspect": 30}
    colour_bar(figure, axes[:2], panels[0], shrink=0.6, **bar)
    colour_bar(figure, axes[2:], panels[2], shrink=0.9, **bar)
    return figure


def _bounds(points: Array) -> Window:
    lower, upper = points.min(axis=0).astype(float), points.max(axis=0).astype(float)
    # Points on a line, or a single one, still need some room.
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
    colours = {"levels": levels, "cmap": panel.cmap, "extend": "both"}
    values = np.ma.masked_invalid(panel.values)
    if grid is not None:
        x, y = points.reshape(*grid, 2).transpose(2, 0, 1)
        axis.contourf(x, y, values.reshape(grid), **colours)
    elif triangles is not None:
        known = np.isfinite(panel.values)[triangles.triangles].all(axis=1)
        hidden = ~known if triangles.mask is None else ~known | triangles.mask
        if not hidden.all():
            shown = Triangulation(triangles.x, triangles.y, triangles.triangles, hidden)
            filled = values.filled(0.0)
            if smooth:
                shown, filled = _refine(shown, filled)
            axis.tricontourf(shown, filled, **colours)
    else:
        low, high = panel.limits
        axis.scatter(
            points[:, 0], points[:, 1], c=values, vmin=low, vmax=high, cmap=panel.cmap
        )


def _refine(triangles: Triangulation, values: Array) -> tuple[Triangulation, Array]:
    """Return finer triangles with cubic values between those of the points."""
    shown = triangles.get_masked_triangles()
    x, y = triangles.x[shown], triangles.y[shown]
    first, second = ((x[:, k] - x[:, 0], y[:, k] - y[:, 0]) for k in (1, 2))
    if (first[0] * second[1] == first[1] * second[0]).any():
        return triangles, values  # without an area there is no cubic
    cubic = CubicTriInterpolator(triangles, values, kind="geom")
    finer, refined = UniformTriRefiner(triangles).refine_field(
        values, triinterpolator=cubic, subdiv=_HALVINGS
    )
    known = values[np.unique(shown)]
    return finer, np.clip(refined, known.min(), known.max())
