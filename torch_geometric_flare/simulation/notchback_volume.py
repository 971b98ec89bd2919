"""Simulated cars with velocity and pressure at any point of the air around them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.interpolate import LinearNDInterpolator

from torch_geometric_flare.fields import Field, Fields
from torch_geometric_flare.simulation.notchback import (
    BASE_PRESSURE,
    MIRROR,
    Notchback,
    NotchbackFlow,
)
from torch_geometric_flare.simulation.notchback_body import NotchbackShape
from torch_geometric_flare.simulation.surface_distance import TriangleSurface
from torch_geometric_flare.simulation.surface_points import sample_quads

Array = npt.NDArray[np.float64]

_MEAN_DISTANCE = 0.3  # mean distance of the points near the body, in meters
_LEAST_DISTANCE = 0.02
_WAKE_LENGTH = 1.5  # decay length of the wake, in meters
_BEFORE_TAIL, _BEHIND_TAIL, _ACROSS, _ABOVE = 0.5, 2.5, 1.2, 1.6  # the wake box


@dataclass(frozen=True)
class NotchbackVolume(Notchback):
    r"""Simulated notchbacks with velocity and pressure in the air around them.

    A sample has the arrays of `Notchback` and, with the prefix `query_`, those of
    `volume_points` points in the air. Velocity and pressure there are the potential
    flow of the source panels. With panels of 0.6 times the size, velocity differed by
    0.2 % and pressure by 1.1 % (relative $L_2$ over the points of a car); within 3 cm
    of the surface, where single panels are visible, by 0.5 % and 2.2 %.

    Potential flow has no wake. With `base_pressure`, the same model applies to the air
    behind the rear face as to the face itself: at a distance $s$ in meters downstream
    of a point of the face with the weight $w_0$ of `Notchback`, with $w = w_0 e^{-s /
    1.5}$,

    $$v \leftarrow (1 - w)\, v, \qquad C_p \leftarrow (1 - w)\, C_p - 0.18\, w.$$

    The pressure in the air thus matches that on the surface, the air is at rest at the
    rear face, and the flow recovers within a few meters. This models the level of a
    wake but does not compute it: there is no shear layer, and mass is not conserved.
    Without `base_pressure`, all fields are those of the potential flow.

    The points are drawn as follows and shuffled; points in the body, within 2 cm of its
    surface, or outside `query_coordinate_bounds` are redrawn:

    - half of them: points drawn uniformly on the surface, moved along the normal by
      exponentially distributed distances with a mean of 0.3 m;
    - a quarter: uniformly in the wake box, from 0.5 m ahead of the tail to 2.5 m behind
      it, 1.2 m to either side and 1.6 m up;
    - the rest: uniformly in `query_coordinate_bounds`.

    Args:
        volume_points: Number of points in the air per sample.

    All other arguments are those of `Notchback`.

    Raises:
        ValueError: See `Notchback`; also if `volume_points` is not a positive integer.
    """

    volume_points: int = 4096

    name: ClassVar[str] = "simulated_notchback_volume"
    query_fields: ClassVar[Fields] = (
        Field("velocity", 3, "m/s"),
        Field("pressure", 1, "m²/s²"),
    )
    """The targets in the air: velocity, and kinematic pressure relative to the far
    field."""
    query_features: ClassVar[Fields] = (
        Field("signed_distance", 1, "m"),
        Field("distance_direction", 3),
    )
    """Inputs in the air: distance to the body and the direction in which it grows."""
    query_coordinate_bounds: ClassVar[
        tuple[tuple[float, float, float], tuple[float, float, float]]
    ] = ((-3.0, -3.0, 0.0), (9.0, 3.0, 3.0))
    """Box in meters that contains all points in the air."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.volume_points) is not int or self.volume_points < 1:
            raise ValueError(
                "`volume_points` must be an integer of at least 1, got "
                f"{self.volume_points!r}"
            )

    def sample(self, rng: np.random.Generator) -> dict[str, Array]:
        r"""Return the raw arrays of one random car and the air around it.

        Args:
            rng: Random generator for the shape and the points; equal states give equal
                samples, on the surface the same as `Notchback`.

        Returns:
            The arrays of `Notchback.sample`, the points in the air `query_pos` [M, 3],
            and the arrays of `fields_at` at these points, with the prefix `query_`.
        """
        flow = self.solve(NotchbackShape.sample(rng))
        surface = self.surface_points(flow, rng)
        points = self.volume(flow, rng)
        values = {"pos": points, **self.fields_at(flow, points)}
        return surface | {f"query_{name}": value for name, value in values.items()}

    def volume(self, flow: NotchbackFlow, rng: np.random.Generator) -> Array:
        """Draw `volume_points` points in the air, with the distribution of the class.

        Args:
            flow: Flow over the body, from `solve`.
            rng: Random generator for the points.

        Returns:
            Points in meters, [M, 3].
        """
        surface = _surface(flow)
        lower, upper = np.array(self.query_coordinate_bounds)
        tail = flow.lattice[-1, 0, 0]
        box = np.array(
            [
                (tail - _BEFORE_TAIL, -_ACROSS, lower[2]),
                (tail + _BEHIND_TAIL, _ACROSS, _ABOVE),
            ]
        )
        corners, areas = flow.corners(), np.tile(flow.areas.reshape(-1), 2)
        normals = flow.normals.reshape(-1, 3)
        normals = np.concatenate([normals, normals * MIRROR])

        def near(count: int) -> Array:
            panel, weights = sample_quads(corners, areas, count, rng)
            pos = np.einsum("nk,nki->ni", weights, corners[panel])
            distance = rng.exponential(_MEAN_DISTANCE, (count, 1))
            return np.asarray(pos + distance * normals[panel])

        def draw(count: int, propose: Callable[[int], Array]) -> Array:
            points = np.empty((0, 3))
            while len(points) < count:
                proposed = propose(count)
                proposed = proposed[
                    ((proposed >= lower) & (proposed <= upper)).all(axis=1)
                ]
                distance, _ = surface.signed_distance(proposed)
                points = np.concatenate([points, proposed[distance >= _LEAST_DISTANCE]])
            return points[:count]

        first, second = self.volume_points // 2, self.volume_points // 4
        parts = (
            draw(first, near),
            draw(second, lambda count: rng.uniform(box[0], box[1], (count, 3))),
            draw(
                self.volume_points - first - second,
                lambda count: rng.uniform(lower, upper, (count, 3)),
            ),
        )
        return rng.permutation(np.concatenate(parts))

    def fields_at(self, flow: NotchbackFlow, points: npt.ArrayLike) -> dict[str, Array]:
        r"""Return fields and features at any points over the road.

        Args:
            flow: Flow over the body, from `solve`.
            points: Points in meters, [M, 3]. Points inside the body get a negative
                distance and the fields 2 cm off the closest point of its surface.

        Returns:
            `velocity` in m/s, [M, 3]; `pressure`, kinematic, in m²/s², [M, 1];
            `signed_distance` to the body in meters, [M, 1]; and `distance_direction`,
            the unit vector in which it grows fastest, [M, 3].

        Raises:
            ValueError: If `points` is not an [M, 3] array of finite numbers.
        """
        pos = np.asarray(points, dtype=np.float64)
        if pos.ndim != 2 or pos.shape[1] != 3 or not np.isfinite(pos).all():
            raise ValueError(
                f"`points` must be finite and of shape [M, 3], got {list(pos.shape)}"
            )
        distance, direction = _surface(flow).signed_distance(pos)
        out = np.where(distance < 0.0, _LEAST_DISTANCE - distance, 0.0)
        pos = pos + out[:, None] * direction
        velocity, pressure = flow.potential.at(pos)
        weight = _wake_weight(flow, pos)
        pressure = (1.0 - weight) * pressure + weight * BASE_PRESSURE
        return {
            "velocity": self.speed * (1.0 - weight)[:, None] * velocity,
            "pressure": 0.5 * self.speed**2 * pressure[:, None],
            "signed_distance": distance[:, None],
            "distance_direction": direction,
        }


def _surface(flow: NotchbackFlow) -> TriangleSurface:
    corners = flow.corners()[: flow.areas.size]
    half = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])
    return TriangleSurface(np.concatenate([half, half[:, ::-1] * MIRROR]))


def _wake_weight(flow: NotchbackFlow, points: Array) -> Array:
    """Return the weight of the base pressure at points in the air, [M]."""
    centers = flow.potential.panels.centers
    tail = flow.lattice[-1, 0, 0]
    # Seen from behind, no point of the rear hides another.
    rear = (flow.normals[..., 0].reshape(-1) > 0.0) & (centers[:, 0] > 0.85 * tail)
    places = centers[rear]
    values = np.stack([flow.wake_weight.reshape(-1)[rear], places[:, 0]], axis=1)
    face = LinearNDInterpolator(
        np.concatenate([places, places * MIRROR])[:, 1:],
        np.tile(values, (2, 1)),
        fill_value=0.0,
    )
    weight, start = face(points[:, 1:]).T
    behind = points[:, 0] - start
    # Farther ahead, the line through the point reaches the front of the car.
    weight = np.where(behind > -0.15 * tail, weight, 0.0)
    return np.asarray(weight * np.exp(-np.maximum(behind, 0.0) / _WAKE_LENGTH))
