r"""Potential flow around a closed body with constant-strength source panels.

J. L. Hess and A. M. O. Smith, "Calculation of potential flow about arbitrary
bodies", Progress in Aerospace Sciences 8 (1967) 1-138.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_FOUR_PI = 4.0 * np.pi
_PAIRS_AT_A_TIME = 2**21  # pairs of a point and a panel, about 32 bytes each


@dataclass(frozen=True)
class SourcePanelFlow:
    r"""Flow around a body in a free stream of speed $|U|$.

    Args:
        panels: The panels of the body.
        freestream: Velocity in the far field, [3].
        strengths: Source strength of each panel, in units of velocity, [P].
        velocity: Velocity at the center of each panel, [P, 3].
        pressure_coefficient: $C_p = 1 - |v|^2 / |U|^2$ at the centers, [P].
    """

    panels: "SourcePanels"
    freestream: Array
    strengths: Array
    velocity: Array
    pressure_coefficient: Array

    def at(self, points: npt.ArrayLike) -> tuple[Array, Array]:
        r"""Return velocity and pressure coefficient at any points outside the body.

        Memory does not grow with the number of points. Closer to the surface than the
        size of a panel, single panels are visible, and the flow is only as accurate as
        on the panels.

        Args:
            points: Points, [N, 3]. On a panel, the result is the limit from the flow.

        Returns:
            Velocity including the free stream, [N, 3], and $C_p$, [N].

        Raises:
            ValueError: If `points` is not an [N, 3] array of finite numbers.
        """
        velocity = self.panels.induced_velocity(points, self.strengths)
        velocity += self.freestream
        squares = (velocity**2).sum(axis=1)
        return velocity, 1.0 - squares / (self.freestream**2).sum()


@dataclass(frozen=True)
class _Influence:
    """Point-source factors of far pairs, and velocities of near pairs."""

    far: Array  # [N, P]; 0 for near pairs
    near: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]  # points, panels
    exact: Array  # [Q, 3]


class SourcePanels:
    r"""Quadrilateral panels, each with a constant source density.

    A panel of density $\sigma$ induces

    $$v(p) = \frac{\sigma}{4\pi} \int \frac{p - q}{|p - q|^3} \, dA(q).$$

    For a counterclockwise panel with normal $n$ and edges $k$ of direction $t_k$ and
    length $d_k$, whose ends are at distances $r_k$ and $r_{k+1}$ from $p$, this is

    $$v(p) = \frac{\sigma}{4\pi} \Big[ \sum_k (t_k \times n)
    \ln \frac{r_k + r_{k+1} + d_k}{r_k + r_{k+1} - d_k} + \Omega \, n \Big],$$

    where $\Omega$ is the solid angle of the panel, positive on the side of $n$. Its
    limit at the panel is $2\pi$, which gives half the density. Beyond `near_field`
    diagonals, the panel is replaced by a point source at its centroid.

    Quadrilaterals are projected onto the plane through their centroid whose normal is
    along the cross product of the diagonals. Two vertices may coincide.

    Args:
        vertices: Corners, counterclockwise seen from the flow, [P, 4, 3].
        mirrors: Planes of symmetry, each `(axis, position)`. The flow is around the
            body and all its mirror images.
        near_field: Distance between a point and a panel's centroid, in diagonals of the
            panel, below which the exact integral is used.

    Attributes:
        centers: Area centroids of the flattened panels, [P, 3].
        normals: Unit normals, toward the flow, [P, 3].
        areas: Areas of the flattened panels, [P].

    Raises:
        ValueError: If `vertices` is not a [P, 4, 3] array of finite numbers, a panel
            has no area, or the axes of `mirrors` are not distinct or not 0, 1 or 2.
    """

    def __init__(
        self,
        vertices: npt.ArrayLike,
        mirrors: Sequence[tuple[int, float]] = (),
        near_field: float = 4.0,
    ) -> None:
        corners = np.asarray(vertices, dtype=np.float64)
        if corners.ndim != 3 or corners.shape[1:] != (4, 3):
            raise ValueError(
                f"`vertices` must have shape [P, 4, 3], got {list(corners.shape)}"
            )
        if not np.isfinite(corners).all():
            raise ValueError("`vertices` holds non-finite values")
        axes = [axis for axis, _ in mirrors]
        if not set(axes) <= {0, 1, 2} or len(set(axes)) < len(axes):
            raise ValueError(
                f"the axes of `mirrors` must be 0, 1 or 2 and distinct, got {mirrors}"
            )
        self.mirrors = tuple(mirrors)
        self.near_field = near_field

        diagonals = corners[:, 2:] - corners[:, :2]  # [P, 2, 3]
        cross = np.cross(diagonals[:, 0], diagonals[:, 1])
        self.areas: Array = 0.5 * np.linalg.norm(cross, axis=1)
        size = np.linalg.norm(diagonals, axis=2).max(axis=1)
        flat = np.flatnonzero(self.areas <= 1e-12 * size**2)
        if flat.size:
            raise ValueError(f"panel {flat[0]} of `vertices` has no area")
        self.normals: Array = cross / (2.0 * self.areas[:, None])

        # Axes of the panel: two in its plane, then its normal.
        first = diagonals[:, 0] / np.linalg.norm(diagonals[:, 0], axis=1)[:, None]
        second = np.cross(self.normals, first)
        self._axes: Array = np.stack([first, second, self.normals], axis=1)
        middle = corners.mean(axis=1)
        local = np.einsum("pij,pkj->pki", self._axes[:, :2], corners - middle[:, None])
        centroid = _polygon_centroid(local)
        self.centers: Array = middle + np.einsum(
            "pi,pij->pj", centroid, self._axes[:, :2]
        )
        self._local: Array = local - centroid[:, None]  # [P, 4, 2]
        self._size: Array = size

    def solve(self, freestream: Sequence[float] = (1.0, 0.0, 0.0)) -> SourcePanelFlow:
        r"""Compute the strengths for which no fluid crosses the panels' centers.

        Args:
            freestream: Velocity in the far field; it must be parallel to every mirror.

        Returns:
            Strengths, velocities and pressure coefficients of the panels.

        Raises:
            ValueError: If `freestream` is zero or crosses a mirror.
        """
        stream = np.asarray(freestream, dtype=np.float64)
        speed = float(np.linalg.norm(stream))
        if stream.shape != (3,) or not speed > 0.0:
            raise ValueError(
                f"`freestream` must be three numbers, not all 0, got {freestream}"
            )
        if any(stream[axis] != 0.0 for axis, _ in self.mirrors):
            raise ValueError(
                f"`freestream` {freestream} crosses a mirror of {self.mirrors}: "
                "set that component to 0"
            )
        matrix = np.zeros((len(self.areas), len(self.areas)))
        parts = []
        for sign, offset in self._images():
            points = self.centers * sign + offset
            part = self._influence(points)
            rows = self.normals * sign
            far = rows @ self.centers.T
            np.subtract((rows * points).sum(axis=1)[:, None], far, out=far)
            far *= part.far
            matrix += far
            # Each pair occurs once in `near`, so in-place addition with an index is
            # correct.
            matrix[part.near] += np.einsum("qi,qi->q", rows[part.near[0]], part.exact)
            parts.append((sign, points, part))
        strengths: Array = np.asarray(np.linalg.solve(matrix, -self.normals @ stream))
        velocity = np.tile(stream, (len(strengths), 1))
        for sign, points, part in parts:
            velocity += self._induced(points, part, strengths) * sign
        pressure: Array = 1.0 - (velocity**2).sum(axis=1) / speed**2
        return SourcePanelFlow(self, stream, strengths, velocity, pressure)

    def induced_velocity(self, points: npt.ArrayLike, strengths: Array) -> Array:
        r"""Return the velocity induced by panels with these strengths and their images.

        Args:
            points: Points, [N, 3]. On a panel, the result is the limit from the flow.
            strengths: Source densities, [P].

        Returns:
            Velocity without the free stream, [N, 3].

        Raises:
            ValueError: If `points` is not an [N, 3] array of finite numbers.
        """
        pos = np.asarray(points, dtype=np.float64)
        if pos.ndim != 2 or pos.shape[1] != 3 or not np.isfinite(pos).all():
            raise ValueError(
                f"`points` must be finite and of shape [N, 3], got {list(pos.shape)}"
            )
        total = np.zeros_like(pos)
        step = max(1, _PAIRS_AT_A_TIME // len(self.areas))
        for start in range(0, len(pos), step):
            rows = slice(start, start + step)
            for sign, offset in self._images():
                image = pos[rows] * sign + offset
                part = self._influence(image)
                total[rows] += self._induced(image, part, strengths) * sign
        return total

    def _images(self) -> Iterator[tuple[Array, Array]]:
        # Instead of the panels, reflect the point and then the velocity: the image of a
        # panel acts at p as the panel acts at the image of p.
        for choice in product((False, True), repeat=len(self.mirrors)):
            sign, offset = np.ones(3), np.zeros(3)
            for (axis, position), reflect in zip(self.mirrors, choice, strict=True):
                if reflect:
                    sign[axis] = -sign[axis]
                    offset[axis] = 2.0 * position - offset[axis]
            yield sign, offset

    def _influence(self, points: Array) -> _Influence:
        ones = np.ones((len(points), 1))
        left = np.hstack([-2.0 * points, (points**2).sum(axis=1)[:, None], ones])
        right = np.hstack(
            [
                self.centers,
                np.ones((len(self.areas), 1)),
                (self.centers**2).sum(axis=1)[:, None],
            ]
        )
        squared = left @ right.T  # |p - c|^2, [N, P]
        rows, panels = np.nonzero(squared < (self.near_field * self._size) ** 2)
        squared[rows, panels] = np.inf
        far = np.sqrt(squared)
        far *= squared
        np.divide(self.areas / _FOUR_PI, far, out=far)
        exact = self._exact(points[rows], panels)
        return _Influence(far, (rows, panels), exact)

    def _exact(self, points: Array, panels: npt.NDArray[np.intp]) -> Array:
        axes = self._axes[panels]  # [Q, 3, 3]
        position = np.einsum("qij,qj->iq", axes, points - self.centers[panels])
        corners = self._local.transpose(1, 2, 0)[:, :, panels]  # [4, 2, Q]
        x, y = position[0] - corners[:, 0], position[1] - corners[:, 1]  # [4, Q]
        # On the panel, use the limit from the flow.
        thin = 1e-9 * self._size[panels]
        height = np.where(np.abs(position[2]) < thin, thin, position[2])
        radius = np.sqrt(x**2 + y**2 + height**2)

        edge = np.roll(self._local, -1, axis=1) - self._local  # [P, 4, 2]
        length = np.sqrt((edge**2).sum(axis=2))
        direction = edge / np.where(length > 0.0, length, 1.0)[..., None]
        d, t = length.T[:, panels], direction.transpose(2, 1, 0)[:, :, panels]
        around = radius + np.roll(radius, -1, axis=0)
        # On an edge, the logarithm is infinite; use a large finite velocity.
        tiny = 1e-14 * around
        log = np.log((around + d) / np.maximum(around - d, tiny))
        inplane = np.stack([(t[1] * log).sum(axis=0), -(t[0] * log).sum(axis=0)])
        angle = _solid_angle(x, y, height, radius)
        local = np.concatenate([inplane, angle[None]]) / _FOUR_PI
        return np.asarray(np.einsum("iq,qij->qj", local, axes))

    def _induced(self, points: Array, part: _Influence, strengths: Array) -> Array:
        moments = np.hstack([np.ones((len(strengths), 1)), self.centers])
        moments *= strengths[:, None]
        sums = part.far @ moments  # [N, 4]
        velocity = points * sums[:, :1] - sums[:, 1:]
        rows, panels = part.near
        exact = part.exact * strengths[panels, None]
        for axis in range(3):
            velocity[:, axis] += np.bincount(rows, exact[:, axis], len(points))
        return np.asarray(velocity)


def _polygon_centroid(corners: Array) -> Array:
    after = np.roll(corners, -1, axis=1)
    cross = corners[..., 0] * after[..., 1] - corners[..., 1] * after[..., 0]
    total = 3.0 * cross.sum(axis=1)
    weighted = ((corners + after) * cross[..., None]).sum(axis=1)
    return np.asarray(weighted / total[:, None])


def _solid_angle(x: Array, y: Array, height: Array, radius: Array) -> Array:
    r"""Return the solid angle of a flat quadrilateral as the sum of two triangles.

    A. Van Oosterom and J. Strackee, IEEE Transactions on Biomedical Engineering 30
    (1983) 125-126.
    """
    total = np.zeros_like(height)
    for i, j, k in ((0, 1, 2), (0, 2, 3)):
        # The triple product is twice the triangle's area times the height.
        twice = (x[j] - x[i]) * (y[k] - y[i]) - (y[j] - y[i]) * (x[k] - x[i])
        denominator = radius[i] * radius[j] * radius[k]
        for a, b, c in ((i, j, k), (j, k, i), (k, i, j)):
            denominator = (
                denominator + (x[a] * x[b] + y[a] * y[b] + height**2) * radius[c]
            )
        total += 2.0 * np.arctan2(twice * height, denominator)
    return np.asarray(total)
