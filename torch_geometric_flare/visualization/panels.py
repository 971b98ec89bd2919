"""Shared parts of all comparisons: panels, colors and color bars."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from torch import Tensor

from torch_geometric_flare.fields import Field

Array = npt.NDArray[np.float32]

# Perceptually uniform, so equal steps of a field look equally large.
_FIELD_COLORS = "viridis"
_ERROR_COLORS = "coolwarm"
_SIZE_COLORS = "magma_r"


class Panel(NamedTuple):
    """One picture of a comparison.

    Attributes:
        heading: Text above the picture.
        label: Text at the color bar, with the unit.
        values: One number per point; NaN for missing values.
        limits: Limits of the color bar.
        cmap: Name of a Matplotlib colormap.
    """

    heading: str
    label: str
    values: Array
    limits: tuple[float, float]
    cmap: str


def make_panels(
    truth: Tensor, prediction: Tensor, field: Field, num_points: int
) -> tuple[Panel, Panel, Panel]:
    """Return the panels of truth, prediction and error.

    Truth and prediction share their limits, the 1st and the 99th percentile of the
    truth. For vectors, the magnitude is shown, and for their error, the magnitude of
    the difference.

    Args:
        truth: True values; NaN for missing values.
        prediction: Predicted values.
        field: Name, channels and unit of the values.
        num_points: Number of points.

    Shapes:
        - **truth, prediction:** $(N, C)$, or $(N)$ with one channel

    Raises:
        ValueError: If a shape does not fit, or `truth` is finite nowhere.
    """
    channels = field.channels
    true, predicted = (
        _masked(as_array(values, name, num_points, channels, finite=False))
        for values, name in ((truth, "truth"), (prediction, "prediction"))
    )
    error = predicted - true
    unit = f" [{field.unit}]" if field.unit else ""
    name = _display_name(field)
    if channels == 1:
        bound = _upper_bound(np.abs(error))
        heading, label = "error (prediction − truth)", f"error{unit}"
        limits, cmap = (-bound, bound), _ERROR_COLORS
    else:
        name = f"|{name}|"
        true, predicted, error = (
            np.linalg.norm(values, axis=1) for values in (true, predicted, error)
        )
        heading, label = "error |prediction − truth|", f"|error|{unit}"
        limits, cmap = (0.0, _upper_bound(error)), _SIZE_COLORS
    finite_truth = true[np.isfinite(true)]
    if not len(finite_truth):
        raise ValueError("truth must be finite at one point at least")
    value_limits = _percentile_range(finite_truth)
    return (
        Panel("truth", f"{name}{unit}", true, value_limits, _FIELD_COLORS),
        Panel("prediction", f"{name}{unit}", predicted, value_limits, _FIELD_COLORS),
        Panel(heading, label, error, limits, cmap),
    )


def band_panel(values: Any, field: Field) -> Panel:
    """Return the panel of a prediction band; for vectors, its magnitude.

    Args:
        values: Half widths, $[N]$ or $[N, C]$.
        field: Field of the prediction.
    """
    width = np.asarray(values, np.float32)
    width = width if width.ndim == 1 else np.linalg.norm(width, axis=1)
    unit = f" [{field.unit}]" if field.unit else ""
    limits = (0.0, _upper_bound(width))
    return Panel("half width of the band", f"±{unit}", width, limits, _SIZE_COLORS)


def _display_name(field: Field) -> str:
    """Return the display name of a field."""
    name = field.name.replace("_", " ")
    return "kinematic pressure" if (name, field.unit) == ("pressure", "m²/s²") else name


def as_array(
    tensor: Tensor,
    name: str,
    num_points: int | None,
    channels: int = 1,
    *,
    finite: bool = True,
) -> Array:
    """Convert a tensor to an array, of shape [N] if there is one channel.

    Raises:
        ValueError: If the shape does not fit, or `finite` is true and a value is not
            finite.
    """
    shape = tuple(tensor.shape)
    count = shape[0] if shape and num_points is None else num_points
    allowed = {(count, channels)} | ({(count,)} if channels == 1 else set())
    if shape not in allowed or shape[0] == 0:
        wanted = f"[{'N' if num_points is None else num_points}, {channels}]"
        raise ValueError(f"{name} must have shape {wanted}, got {list(shape)}")
    if finite and not tensor.isfinite().all():
        raise ValueError(f"{name} must be finite; drop the points where it is not")
    array: Array = tensor.detach().cpu().float().numpy()
    return array.reshape(-1) if channels == 1 else array


def color_bar(figure: Figure, axes: list[Axes], panel: Panel, **options: Any) -> None:
    """Draw the color bar of a panel next to its axes."""
    # Use a common power of ten, because numbers of many digits would overlap.
    form = ScalarFormatter()
    form.set_powerlimits((-3, 4))
    bar = figure.colorbar(
        ScalarMappable(Normalize(*panel.limits), panel.cmap),
        ax=axes,
        extend="both" if panel.limits[0] else "max",
        pad=0.02,
        ticks=MaxNLocator(6),
        format=form,
        **options,
    )
    bar.set_label(panel.label, fontsize=14)
    bar.ax.tick_params(labelsize=12)


def _masked(values: Array) -> Array:
    return np.where(np.isfinite(values), values, np.float32(np.nan))


def _percentile_range(values: Array) -> tuple[float, float]:
    lower, upper = (float(v) for v in np.percentile(values, (1, 99)))
    if lower < upper:
        return lower, upper
    margin = 0.01 * abs(lower) or 1.0
    return lower - margin, upper + margin


def _upper_bound(sizes: Array) -> float:
    sizes = sizes[np.isfinite(sizes)]
    return (float(np.percentile(sizes, 99)) if len(sizes) else 0.0) or 1.0
