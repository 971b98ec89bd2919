"""Where to pull a surface out and where to push it in."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from torch_geometric_flare.visualization.mesh import mesh_triangles
from torch_geometric_flare.visualization.panels import Panel
from torch_geometric_flare.visualization.pictures import arrange_pictures
from torch_geometric_flare.visualization.rendering import View, cut_margin, render
from torch_geometric_flare.visualization.surface import FRONT_VIEW, REAR_VIEW


def plot_sensitivity(
    mesh: Any,
    quantity: str = "drag",
    *,
    title: str,
    views: Sequence[View] = (FRONT_VIEW, REAR_VIEW),
    flow: View | None = None,
) -> Figure:
    """Draw where moving a surface along its normal lowers a quantity.

    Red: pull out. Blue: push in. The colours are the negative derivative per area, the
    smoothed one where the mesh has it, up to the 99th percentile of its size.

    Args:
        mesh: The mesh of `Surrogate.sensitivity`.
        quantity: Name of the quantity, that of the function for one of your own.
        title: Heading of the figure; say here whether the data are simulated.
        views: Direction from the mesh to the camera, one for each row.
        flow: Direction of the flow, drawn as an arrow; none by default.

    Returns:
        A figure to be saved with `figure.savefig`.

    Raises:
        ValueError: If the mesh has no such derivative.
    """
    names = [f"{quantity}_{kind}_gradient" for kind in ("smooth", "normal")]
    name = next((name for name in names if name in mesh.point_data), None)
    if name is None:
        raise ValueError(
            f"the mesh has no point data {names[1]!r}, but {list(mesh.point_data)}"
        )
    values = -np.asarray(mesh.point_data[name], np.float32)
    bound = float(np.percentile(np.abs(values), 99)) or 1.0
    panel = Panel(
        f"lower {quantity}: red pull out, blue push in",
        f"negative derivative of {quantity} per area",
        values,
        (-bound, bound),
        "coolwarm",
    )
    shape = mesh_triangles(mesh, "point")
    pictures = [
        cut_margin([render(shape, values, panel.limits, panel.cmap, view, flow=flow)])
        for view in views
    ]
    return arrange_pictures(pictures, [panel], title)
