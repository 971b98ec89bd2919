"""Plots of a field on a deformed body, its prediction and the error."""

import math
from collections.abc import Sequence

import numpy as np
import pyvista as pv
from matplotlib.figure import Figure
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.fields import Field
from torch_geometric_flare.visualization.panels import Array, as_array, make_panels
from torch_geometric_flare.visualization.pictures import plot_shapes
from torch_geometric_flare.visualization.rendering import View

_CELL_TYPES = {4: pv.CellType.TETRA, 8: pv.CellType.HEXAHEDRON}
_AXES = {"x": 0, "y": 1, "z": 2}
# Largest drawn displacement relative to the size of the body.
_VISIBLE = 0.06

ABOVE_VIEW: View = (-1.0, -1.2, 0.8)
"""Direction to the camera: to one side and above."""


def plot_deformed_comparison(
    data: Data,
    prediction: Tensor,
    field: Field,
    *,
    title: str,
    truth: Tensor | None = None,
    views: Sequence[View] = (ABOVE_VIEW,),
) -> Figure:
    r"""Plot truth, prediction and error of a displacement on the deformed body.

    The first two panels show the body deformed by the plotted displacement, magnified
    by a round factor that the title states. The error is drawn on the body deformed by
    the truth. A field named `..._x`, `..._y` or `..._z` is a displacement along this
    axis, a field of three channels along its vector. Any other field is drawn on the
    undeformed body. Colors are those of `plot_comparison`. Rendering is off-screen.

    Args:
        data: A sample with `pos` and `cells` (tetrahedra or hexahedra in VTK's order).
        prediction: The predicted field.
        field: Name and unit.
        title: Title of the figure; state here whether the data are simulated.
        truth: The true field. Default: `data.y`.
        views: Direction from the body to the camera for each row of pictures.

    Shapes:
        - **truth, prediction:** $(N, C)$
        - `data.pos`: $(N, 3)$; `data.cells`: $(E, 4)$ or $(E, 8)$

    Returns:
        The figure; save it with `figure.savefig`. No global Matplotlib state is used.

    Raises:
        ValueError: If the sample lacks `pos` or `cells`, shapes disagree, or the
            prediction of a displacement is not finite.
    """
    true = data.y if truth is None else truth
    if data.pos is None or not isinstance(true, Tensor):
        raise ValueError(f"data needs pos and y, but has only {sorted(data.keys())}")
    points = as_array(data.pos, "pos", None, 3)
    cells = data.get("cells")
    if not isinstance(cells, Tensor) or cells.ndim != 2:
        raise ValueError("data has no cells [E, 4] or [E, 8]: use plot_comparison")
    if cells.size(1) not in _CELL_TYPES:
        raise ValueError(
            f"cells has shape {tuple(cells.shape)}, expected tetrahedra [E, 4] or "
            "hexahedra [E, 8]"
        )
    panels = make_panels(true, prediction, field, len(points))
    displacements = _displacement(true, field), _displacement(prediction, field)
    if not all(np.isfinite(displacement).all() for displacement in displacements):
        raise ValueError("prediction must be finite to deform the body")
    factor = _round_factor(displacements[0], points)
    shapes = [
        points + factor * displacement
        for displacement in (*displacements, displacements[0])
    ]
    bodies = [_surface(shape, cells) for shape in shapes]
    corners = np.concatenate(
        [np.array(body.bounds).reshape(3, 2) for body in bodies], 1
    )
    bounds = tuple(np.stack([corners.min(1), corners.max(1)], 1).ravel().tolist())
    if factor:
        title = f"{title}; deformation × {factor:g}"
    return plot_shapes(bodies, panels, title, views, bounds=bounds)


def _displacement(values: Tensor, field: Field) -> Array:
    """Return the displacement vector of each point, [N, 3]."""
    array = values.detach().cpu().float().numpy().reshape(len(values), -1)
    if field.channels == 3:
        return array
    displacement = np.zeros((len(array), 3), dtype=np.float32)
    axis = _AXES.get(field.name.rpartition("_")[2])
    if field.channels == 1 and axis is not None and "_" in field.name:
        displacement[:, axis] = array[:, 0]
    return displacement


def _round_factor(displacement: Array, points: Array) -> float:
    """Return 1, 2 or 5 times a power of ten that makes the displacement visible."""
    largest = float(np.linalg.norm(displacement, axis=1).max())
    size = float(np.linalg.norm(np.ptp(points, axis=0)))
    if largest == 0 or size == 0:
        return 0.0
    wanted = _VISIBLE * size / largest
    power = 10.0 ** math.floor(math.log10(wanted))
    # The logarithm is rounded, so the power may be slightly above `wanted`.
    return power * max(step for step in (0.5, 1.0, 2.0, 5.0) if step * power <= wanted)


def _surface(points: Array, cells: Tensor) -> pv.PolyData:
    kind = _CELL_TYPES[cells.size(1)]
    grid = pv.UnstructuredGrid({kind: cells.cpu().numpy()}, points)
    grid.point_data["point"] = np.arange(len(points))
    return grid.extract_surface(algorithm="dataset_surface")
