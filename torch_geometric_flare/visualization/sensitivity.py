"""Plots of the shape sensitivity of a quantity."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from torch_geometric_flare.visualization.mesh import mesh_triangles
from torch_geometric_flare.visualization.panels import Panel
from torch_geometric_flare.visualization.pictures import plot_shapes
from torch_geometric_flare.visualization.rendering import View
from torch_geometric_flare.visualization.surface import FRONT_VIEW, REAR_VIEW


def plot_sensitivity(
    mesh: Any,
    quantity: str = "drag",
    *,
    title: str,
    views: Sequence[View] = (FRONT_VIEW, REAR_VIEW),
    flow: View | None = None,
) -> Figure:
    """Plot where moving a surface along its normal decreases a quantity.

    Red: pull out. Blue: push in. The colors show the negative derivative per area,
    smoothed if the mesh has it, up to the 99th percentile of its magnitude.

    Args:
        mesh: A mesh from `Surrogate.sensitivity`.
        quantity: Name of the quantity; for a custom function, the name of the function.
        title: Title of the figure; state here whether the data are simulated.
        views: Direction from the mesh to the camera for each row.
        flow: Direction of the flow, drawn as an arrow. Default: no arrow.

    Returns:
        The figure; save it with `figure.savefig`.

    Raises:
        ValueError: If the mesh has no such derivative.
    """
    names = [f"{quantity}_{kind}_gradient" for kind in ("smooth", "normal")]
    name = next((name for name in names if name in mesh.point_data), None)
    if name is None:
        raise ValueError(
            f"the mesh has no point data {names[1]!r}, only {list(mesh.point_data)}"
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
    return plot_shapes([shape], [panel], title, views, flow=flow)
