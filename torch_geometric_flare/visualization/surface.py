"""A field on a point-sampled surface beside its prediction and their difference."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from torch_geometric_flare.visualization.rendering import (
    Array,
    View,
    cone_glyphs,
    cut_margin,
    random_subset,
    render,
    sphere_glyphs,
)

# Directions from the surface to the camera; flow along +x, z up, nose at small x.
FRONT_VIEW: View = (-1.0, -0.95, 0.5)
"""Towards the camera: from ahead, to the side and above."""
SIDE_VIEW: View = (0.0, -1.0, 0.0)
"""Towards the camera: from the side."""
REAR_VIEW: View = (1.0, -0.95, 0.5)
"""Towards the camera: from behind, to the side and above."""

_FIELD_COLOURS = "turbo"
_ERROR_COLOURS = "coolwarm"


def plot_surface_comparison(
    pos: Tensor,
    truth: Tensor,
    prediction: Tensor,
    *,
    title: str,
    normal: Tensor | None = None,
    area: Tensor | None = None,
    unit: str = "m²/s²",
    quantity: str = "kinematic pressure",
    views: Sequence[View] = (FRONT_VIEW, REAR_VIEW),
    max_points: int = 100_000,
) -> Figure:
    r"""Draw truth, prediction and error (prediction − truth) on a surface.

    One row for each view, three panels a row. Truth and prediction share their
    colours, which span the 1st to the 99th percentile of the truth; the error has a
    diverging scale, symmetric about zero, up to the 99th percentile of its size.

    The points need no connectivity. With `normal` and `area` each is drawn as a flat
    cone along its normal that covers its share of the surface, so that the surface
    looks closed and every place has the colour of its nearest point; without them as
    a sphere, sized by the median distance between neighbours. Rendering happens off
    screen and needs no display.

    Args:
        pos: Points on the surface, in metres, z up.
        truth: Reference values at the points, in `unit`.
        prediction: Predicted values at the points, in `unit`; values that are not
            finite are drawn in grey.
        title: Heading of the figure; say here whether the data are simulated.
        normal: Outward unit normals; used together with `area`.
        area: Area that each point stands for, in square metres.
        unit: Unit of the field, for the colour bars.
        quantity: Name of the field, for the colour bars.
        views: Direction from the surface to the camera, one for each row.
        max_points: With more points than this, a random subset of this size (the
            same in every call) is drawn; the colour ranges still come from all.

    Shapes:
        - `pos`: $(N, 3)$
        - **truth, prediction:** $(N)$ or $(N, 1)$
        - `normal`: $(N, 3)$
        - `area`: $(N)$ or $(N, 1)$

    Returns:
        A figure to be saved with `figure.savefig`; no global Matplotlib state is used.

    Raises:
        ValueError: If shapes disagree, if any input but `prediction` is not finite, if
            only one of `normal` and `area` is given, or if `views` or `max_points` is
            unusable.
    """
    if len(views) == 0 or not np.any(views, axis=1).all() or max_points < 1:
        raise ValueError(
            "views must hold directions other than (0, 0, 0), at least one, and "
            f"max_points must be positive; got {views=} and {max_points=}"
        )
    if (normal is None) != (area is None):
        raise ValueError("normal and area belong together: give both or neither")
    points = _as_array(pos, "pos", None, 3)
    true = _as_array(truth, "truth", len(points))
    predicted = _as_array(prediction, "prediction", len(points), finite=False)
    predicted = np.where(np.isfinite(predicted), predicted, np.float32(np.nan))
    error = predicted - true
    field_range = _percentile_range(true)
    error_bound = _symmetric_bound(error)

    chosen = random_subset(len(points), max_points)
    if normal is None or area is None:
        glyphs = sphere_glyphs(points[chosen])
    else:
        normals = _as_array(normal, "normal", len(points), 3)
        shares = _as_array(area, "area", len(points)) * (len(points) / len(chosen))
        if (shares < 0).any():
            raise ValueError("area must not be negative")
        glyphs = cone_glyphs(points[chosen], normals[chosen], shares[chosen])
    columns = (
        ("truth", true[chosen], field_range, _FIELD_COLOURS),
        ("prediction", predicted[chosen], field_range, _FIELD_COLOURS),
        (
            "error (prediction − truth)",
            error[chosen],
            (-error_bound, error_bound),
            _ERROR_COLOURS,
        ),
    )
    pictures = [
        [render(glyphs, values, clim, cmap, view) for _, values, clim, cmap in columns]
        for view in views
    ]
    pictures = [cut_margin(row) for row in pictures]

    heights = [row[0].shape[0] / row[0].shape[1] for row in pictures]
    width = 15.0
    figure = Figure(
        figsize=(width, width / 3 * sum(heights) + 1.7),
        layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1),
    )
    figure.suptitle(title, fontsize=17)
    axes = figure.subplots(
        len(views), 3, squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for row, images in zip(axes, pictures, strict=True):
        for axis, image in zip(row, images, strict=True):
            axis.imshow(image)
            axis.set_axis_off()
    for axis, (heading, _, _, _) in zip(axes[0], columns, strict=True):
        axis.set_title(heading, fontsize=15)

    _colour_bar(
        figure,
        list(axes[:, :2].flat),
        field_range,
        _FIELD_COLOURS,
        f"{quantity} [{unit}]",
        0.5,
    )
    _colour_bar(
        figure,
        list(axes[:, 2]),
        (-error_bound, error_bound),
        _ERROR_COLOURS,
        f"error [{unit}]",
        0.9,
    )
    return figure


def _as_array(
    tensor: Tensor,
    name: str,
    num_points: int | None,
    channels: int = 1,
    *,
    finite: bool = True,
) -> Array:
    shape = tuple(tensor.shape)
    count = shape[0] if shape and num_points is None else num_points
    allowed = {(count, channels)} | ({(count,)} if channels == 1 else set())
    if shape not in allowed or shape[0] == 0:
        wanted = f"[{'N' if num_points is None else num_points}, {channels}]"
        raise ValueError(f"{name} must have shape {wanted}, got {list(shape)}")
    if finite and not tensor.isfinite().all():
        raise ValueError(f"{name} must be finite; drop the points where it is not")
    array: Array = tensor.detach().to("cpu", torch.float32).numpy()
    return array.reshape(-1) if channels == 1 else array


def _percentile_range(values: Array) -> tuple[float, float]:
    lower, upper = (float(v) for v in np.percentile(values, (1, 99)))
    if lower < upper:
        return lower, upper
    margin = 0.01 * abs(lower) or 1.0
    return lower - margin, upper + margin


def _symmetric_bound(error: Array) -> float:
    sizes = np.abs(error[np.isfinite(error)])
    return (float(np.percentile(sizes, 99)) if len(sizes) else 0.0) or 1.0


def _colour_bar(
    figure: Figure,
    axes: list[Axes],
    limits: tuple[float, float],
    cmap: str,
    label: str,
    shrink: float,
) -> None:
    bar = figure.colorbar(
        ScalarMappable(Normalize(*limits), cmap),
        ax=axes,
        location="bottom",
        extend="both",
        shrink=shrink,
        aspect=30,
        pad=0.02,
    )
    bar.set_label(label, fontsize=14)
    bar.ax.tick_params(labelsize=12)
