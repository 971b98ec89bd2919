"""Triangulations of points in the plane."""

import numpy as np
import numpy.typing as npt
from matplotlib.tri import Triangulation
from torch import Tensor

from torch_geometric_flare.visualization.panels import Array

# Triangles longer than this multiple of the point spacing span a hole of the domain;
# triangles of random points are rarely that long.
_OVER_LONG = 5.0


def triangles_of_cells(points: Array, cells: Tensor) -> Triangulation:
    """Return the triangles of cells, quads split in two.

    Args:
        points: Points of the plane.
        cells: Points of each cell, in order around it.

    Shapes:
        - `points`: $(N, 2)$
        - `cells`: $(M, 3)$ or $(M, 4)$

    Raises:
        ValueError: If the shape does not fit, or a cell refers to a point that does not
            exist.
    """
    corners = check_cells(cells, len(points))
    if corners.shape[1] == 4:
        corners = np.concatenate((corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]))
    return Triangulation(points[:, 0], points[:, 1], corners)


def check_cells(cells: Tensor, num_points: int) -> npt.NDArray[np.integer]:
    """Validate triangles or quads and return them as an array.

    Args:
        cells: Points of each cell.
        num_points: Number of points.

    Raises:
        ValueError: If the shape does not fit, or a cell refers to a point that does not
            exist.
    """
    if cells.ndim != 2 or cells.size(1) not in (3, 4) or cells.size(0) == 0:
        raise ValueError(
            f"cells must have shape [M, 3] or [M, 4], got {list(cells.shape)}"
        )
    corners = cells.detach().cpu().numpy()
    if corners.dtype.kind not in "iu" or not (
        0 <= corners.min() <= corners.max() < num_points
    ):
        raise ValueError(
            f"cells must hold indices of points, from 0 to {num_points - 1}"
        )
    return corners


def triangles_of_points(points: Array) -> Triangulation | None:
    """Return Delaunay triangles without those that span holes of the domain.

    Args:
        points: Points of the plane.

    Shapes:
        - `points`: $(N, 2)$

    Returns:
        The triangles; `None` if the points span none, because they are fewer than three
        or lie on a line.
    """
    if len(np.unique(points, axis=0)) < 3:
        return None
    try:
        triangles = Triangulation(points[:, 0], points[:, 1])
    except (RuntimeError, ValueError):  # Qhull fails for points on a line
        return None
    corners = triangles.triangles
    ends = points[np.roll(corners, -1, axis=1)]
    lengths = np.linalg.norm(ends - points[corners], axis=2)  # [M, 3]
    longest = lengths.max(axis=1)
    spacing = _spacing(corners, lengths, len(points))
    triangles.set_mask(longest > _OVER_LONG * spacing[corners].min(axis=1))
    return triangles


def _spacing(corners: npt.NDArray[np.int32], lengths: Array, num_points: int) -> Array:
    """Return the length of the fourth-shortest edge at each point.

    A point next to a hole has at least this many neighbors that are not across it.
    """
    # Count each edge of a triangle for both of its end points.
    points = np.concatenate((corners.ravel(), np.roll(corners, -1, axis=1).ravel()))
    lengths = np.concatenate((lengths.ravel(), lengths.ravel()))
    lengths = lengths[np.lexsort((lengths, points))]
    counts = np.bincount(points, minlength=num_points)
    # Edges occur twice, once for each adjacent triangle.
    fourth = np.cumsum(counts) - counts + np.clip(counts - 1, 0, 7)
    # The values of points without triangles are not used.
    spacing: Array = lengths[np.minimum(fourth, len(lengths) - 1)]
    return spacing
