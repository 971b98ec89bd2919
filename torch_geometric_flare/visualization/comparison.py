"""Comparison plots for any sample."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.fields import Field
from torch_geometric_flare.visualization.plane import Window, plot_plane_comparison
from torch_geometric_flare.visualization.rendering import View
from torch_geometric_flare.visualization.surface import (
    FRONT_VIEW,
    REAR_VIEW,
    plot_surface_comparison,
)


def plot_comparison(
    data: Data,
    prediction: Tensor,
    field: Field,
    *,
    title: str,
    truth: Tensor | None = None,
    window: Window | None = None,
    views: Sequence[View] = (FRONT_VIEW, REAR_VIEW),
    flow: View | None = None,
) -> Figure:
    r"""Plot truth, prediction and error of a sample in the plane or on a surface.

    In 2D, the plot uses the sample's `grid`, or else its `cells`, or else only the
    points (see `plot_plane_comparison`). In 3D, it uses its `cells` if points have a
    `normal`, so that cells are faces, or else its `normal` and `area`, or else only the
    points (see `plot_surface_comparison`).

    Args:
        data: A sample with `pos`.
        prediction: The predicted field.
        field: Name and unit for the color bars.
        title: Title of the figure; state here whether the data are simulated.
        truth: The true field. Default: `data.y`.
        window: Part of the plane to show, `((x0, x1), (y0, y1))`, only in 2D.
        views: Direction to the camera for each row of pictures, only in 3D.
        flow: Direction of the flow, drawn as an arrow, only in 3D.

    Shapes:
        - **truth, prediction:** $(N, C)$

    Returns:
        The figure; save it with `figure.savefig`. No global Matplotlib state is used.

    Raises:
        ValueError: If the sample lacks `pos`, or shapes disagree.
    """
    pos = data.pos
    if pos is None or pos.ndim != 2 or pos.size(1) not in (2, 3):
        shape = None if pos is None else list(pos.shape)
        raise ValueError(f"pos must have shape [N, 2] or [N, 3], got {shape}")
    true = data.y if truth is None else truth
    if not isinstance(true, Tensor):
        raise ValueError("data has no y: pass truth")
    if pos.size(1) == 2:
        grid = data.get("grid")
        return plot_plane_comparison(
            pos,
            true,
            prediction,
            field,
            title=title,
            grid=None if grid is None else _rows_and_columns(grid),
            cells=data.get("cells"),
            window=window,
        )
    normal, area = data.get("normal"), data.get("area")
    both = normal is not None and area is not None
    return plot_surface_comparison(
        pos,
        true,
        prediction,
        field,
        title=title,
        normal=normal if both else None,
        area=area if both else None,
        cells=None if normal is None else data.get("cells"),
        views=views,
        flow=flow,
    )


def _rows_and_columns(grid: Tensor | Sequence[int]) -> tuple[int, int]:
    """Return the shape of a grid, which may be a tensor in batches and files."""
    numbers = grid.flatten().tolist() if isinstance(grid, Tensor) else list(grid)
    if len(numbers) != 2:
        raise ValueError(f"grid must hold rows and columns, got {numbers}")
    return int(numbers[0]), int(numbers[1])
