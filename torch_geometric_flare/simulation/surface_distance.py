"""Signed distance to a closed surface of triangles."""

from itertools import chain

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_POINTS_AT_A_TIME = 1024


class TriangleSurface:
    r"""A closed triangulated surface with a signed distance function.

    The closest triangle is among those whose centroid is no farther from the point than
    the distance of the nearest centroid plus the largest radius of a triangle. A tree
    finds these candidates, whose distances are then computed exactly.

    Args:
        corners: Corners of the triangles, counterclockwise from outside, [T, 3, 3].
            Triangles without area are ignored.
    """

    def __init__(self, corners: Array) -> None:
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        size = np.linalg.norm(cross, axis=1)
        nonempty = size > 1e-12 * size.max()
        self._corners = corners[nonempty]
        self._normals = cross[nonempty] / size[nonempty, None]
        self._centers = self._corners.mean(axis=1)
        spread = np.linalg.norm(self._corners - self._centers[:, None], axis=2)
        self._radii = spread.max(axis=1)
        self._tree = cKDTree(self._centers)

    def signed_distance(self, points: Array) -> tuple[Array, Array]:
        r"""Return the distance to the surface, negative inside, and its gradient.

        Args:
            points: Points, [N, 3].

        Returns:
            The distances, [N], and unit vectors of steepest ascent, [N, 3]: away from
            the closest point outside, toward it inside, and the normal on the surface.
        """
        distance, direction = np.empty(len(points)), np.empty((len(points), 3))
        for start in range(0, len(points), _POINTS_AT_A_TIME):
            rows = slice(start, start + _POINTS_AT_A_TIME)
            distance[rows], direction[rows] = self._measure(points[rows])
        return distance, direction

    def _measure(self, points: Array) -> tuple[Array, Array]:
        nearest, _ = self._tree.query(points)
        rows, triangles = self._candidates(points, nearest)
        corners, normals = self._corners[triangles], self._normals[triangles]
        offset = points[rows] - _closest_points(points[rows], corners, normals)
        length = np.linalg.norm(offset, axis=1)
        starts = np.searchsorted(rows, np.arange(len(points)))
        least = np.minimum.reduceat(length, starts)
        # Triangles share edges. Of the closest triangles, the one that faces the point
        # most determines the side; the point may be behind others.
        height = np.einsum("qi,qi->q", offset, normals)
        ties = length <= least[rows] * (1.0 + 1e-9) + 1e-12
        facing = np.where(ties, np.abs(height), -1.0)
        order = np.lexsort((-facing, rows))
        chosen = order[starts]
        sign = np.where(height[chosen] < 0.0, -1.0, 1.0)
        on_surface = least < 1e-12
        along = offset[chosen] / np.where(on_surface, 1.0, length[chosen])[:, None]
        direction = np.where(
            on_surface[:, None], normals[chosen], sign[:, None] * along
        )
        return sign * least, direction

    def _candidates(self, points: Array, nearest: Array) -> tuple[Indices, Indices]:
        """Return pairs of a point, ascending, and a candidate triangle."""
        reach = nearest + self._radii.max()
        lists = self._tree.query_ball_point(points, reach)
        counts = np.fromiter(map(len, lists), np.intp, len(points))
        rows = np.repeat(np.arange(len(points)), counts)
        triangles = np.fromiter(chain.from_iterable(lists), np.intp, counts.sum())
        offset = points[rows] - self._centers[triangles]
        gap = np.sqrt((offset**2).sum(axis=1)) - self._radii[triangles]
        is_candidate = gap <= nearest[rows]
        return rows[is_candidate], triangles[is_candidate]


def _closest_points(points: Array, corners: Array, normals: Array) -> Array:
    """Return the point of each triangle [Q, 3, 3] closest to each point [Q, 3]."""
    edges = np.roll(corners, -1, axis=1) - corners  # [Q, 3, 3]
    offset = points[:, None] - corners
    squares = np.einsum("qki,qki->qk", edges, edges)
    share = np.einsum("qki,qki->qk", offset, edges) / squares
    on_edges = corners + np.clip(share, 0.0, 1.0)[..., None] * edges
    gaps = ((points[:, None] - on_edges) ** 2).sum(axis=2)
    closest = on_edges[np.arange(len(points)), gaps.argmin(axis=1)]
    # Above the triangle, the foot of the perpendicular is closer than any edge.
    inward = np.cross(normals[:, None], edges)
    is_above = (np.einsum("qki,qki->qk", offset, inward) >= 0.0).all(axis=1)
    height = np.einsum("qi,qi->q", offset[:, 0], normals)
    foot = points - height[:, None] * normals
    return np.asarray(np.where(is_above[:, None], foot, closest))
