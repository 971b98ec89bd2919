"""The shape of a notchback car, defined by sixteen lengths and angles."""

from dataclasses import dataclass, fields
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SHAPE_RANGES = MappingProxyType(
    {
        "length": (4.45, 4.85),
        "width": (1.75, 1.90),
        "height": (1.38, 1.48),
        "clearance": (0.14, 0.20),
        "bonnet_length": (1.05, 1.25),
        "bonnet_height": (0.70, 0.78),
        "cowl_height": (0.93, 1.00),
        "windscreen_angle": (27.0, 33.0),
        "backlight_angle": (26.0, 34.0),
        "decklid_length": (0.50, 0.70),
        "decklid_height": (0.98, 1.08),
        "tumblehome_angle": (20.0, 28.0),
        "nose_rounding": (0.45, 0.75),
        "tail_taper": (0.06, 0.14),
        "approach_angle": (6.0, 12.0),
        "diffuser_angle": (4.0, 12.0),
    }
)
"""Range of each field of `NotchbackShape` in meters and degrees."""


@dataclass(frozen=True)
class NotchbackShape:
    """Lengths (meters) and angles (degrees) of one car. Heights are above the road.

    Args:
        length: Length from nose to tail.
        width: Width at the widest station.
        height: Height of the roof's crest.
        clearance: Height of the flat floor.
        bonnet_length: Length from the nose to the foot of the windscreen.
        bonnet_height: Height at the leading edge.
        cowl_height: Height at the foot of the windscreen.
        windscreen_angle: Angle to the horizontal.
        backlight_angle: Angle of the rear window to the horizontal.
        decklid_length: Length from the foot of the rear window to the tail.
        decklid_height: Height at the tail.
        tumblehome_angle: Angle of the side windows to the vertical.
        nose_rounding: Length over which the front corners are rounded in plan view.
        tail_taper: Relative decrease of the half width toward the tail.
        approach_angle: Rise of the floor toward the nose.
        diffuser_angle: Rise of the floor toward the tail.
    """

    length: float
    width: float
    height: float
    clearance: float
    bonnet_length: float
    bonnet_height: float
    cowl_height: float
    windscreen_angle: float
    backlight_angle: float
    decklid_length: float
    decklid_height: float
    tumblehome_angle: float
    nose_rounding: float
    tail_taper: float
    approach_angle: float
    diffuser_angle: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "NotchbackShape":
        """Draw every field uniformly from its range in `SHAPE_RANGES`."""
        return cls(*(float(rng.uniform(*SHAPE_RANGES[f.name])) for f in fields(cls)))

    def lattice(self, num_along: int, num_around: int) -> Array:
        """Return a lattice over the half of the body with positive y.

        The nose lies at x = 0 and the road is the plane z = 0. The first and the last
        station are single points in the middle of the front and the rear face.

        Args:
            num_along: Number of panels from nose to tail.
            num_around: Number of panels from the keel line over the side to the crest.

        Returns:
            Vertices, [num_along + 1, num_around + 1, 3].
        """
        x = self._stations(num_along)[:, None]
        angle = np.linspace(-0.5 * np.pi, 0.5 * np.pi, num_around + 1)
        across, up = np.cos(angle), np.sin(angle)
        # Parametrize the superellipse of exponent 4 by the polar angle for nearly
        # uniform spacing.
        radius = (across**4 + up**4) ** -0.25
        top, bottom, half_width = self._top(x), self._bottom(x), self._half_width(x)
        z = 0.5 * (top + bottom) + 0.5 * (top - bottom) * radius * up
        y = half_width * radius * across * self._lean(z)
        y[:, [0, -1]] = 0.0
        return np.stack(np.broadcast_arrays(x, y, z), axis=-1)

    def _stations(self, count: int) -> Array:
        # Use equal arc lengths of the combined outlines in plan and side view, so that
        # both faces, which are steep in x, get enough stations.
        t = np.linspace(0.0, 1.0, 4001)
        x = self.length * t**4 / (t**4 + (1.0 - t) ** 4)
        outline = np.stack(
            [x, self._top(x), self._bottom(x), self._half_width(x)], axis=1
        )
        steps = np.sqrt((np.diff(outline, axis=0) ** 2).sum(axis=1))
        arc = np.concatenate([[0.0], np.cumsum(steps)])
        stations = np.interp(np.linspace(0.0, arc[-1], count + 1), arc, x)
        stations[[0, -1]] = 0.0, self.length
        return np.asarray(stations)

    def _top(self, x: Array) -> Array:
        return self._capped(x, self._roofline(x))

    def _bottom(self, x: Array) -> Array:
        rise = np.tan(np.radians(self.approach_angle)) * _ramp(0.75 - x, 0.3)
        rise = rise + np.tan(np.radians(self.diffuser_angle)) * _ramp(
            x - (self.length - 0.85), 0.2
        )
        return self._capped(x, self.clearance + rise)

    def _capped(self, x: Array, outline: Array) -> Array:
        # Close the side view with rounded faces around a point at bumper height.
        front = _cap(x, 0.42, 3.0)
        rear = _cap(self.length - x, 0.22, 3.5)
        middle = 0.5 + 0.12 * x / self.length
        return middle + (outline - middle) * front * rear

    def _half_width(self, x: Array) -> Array:
        front = _cap(x, self.nose_rounding, 3.0)
        rear = _cap(self.length - x, 0.45, 3.5)
        share = x / self.length
        barrel = 1.0 - 0.05 * np.clip(1.0 - share / 0.45, 0.0, None) ** 2
        barrel = barrel - self.tail_taper * np.clip(share / 0.45 - 1.0, 0.0, None) ** 2
        return np.asarray(0.5 * self.width * front * rear * barrel)

    def _lean(self, z: Array) -> Array:
        above = z - (self.cowl_height - 0.05)
        inset = np.tan(np.radians(self.tumblehome_angle)) * _ramp(above, 0.06)
        inset = inset + 0.02 * (1.0 + np.tanh(above / 0.06))
        return np.asarray(1.0 - inset / (0.5 * self.width))

    def _roofline(self, x: Array) -> Array:
        screen = np.tan(np.radians(self.windscreen_angle))
        window = np.tan(np.radians(self.backlight_angle))
        crest = self.height + 0.02
        foot = self.length - self.decklid_length
        knots = (
            (0.0, self.bonnet_height),
            (self.bonnet_length, self.cowl_height),
            (self.bonnet_length + (crest - self.cowl_height) / screen, crest),
            (foot - (crest - self.decklid_height) / window, crest),
            (foot, self.decklid_height),
            (self.length, self.decklid_height),
        )
        return _rounded_polyline(x, knots, radius=(0.10, 0.22, 0.25, 0.12))


def _ramp(x: Array, width: float) -> Array:
    """Return a smooth max(x, 0), a hyperbola that rounds the corner over `width`."""
    return 0.5 * (x + np.sqrt(x**2 + width**2))


def _cap(distance: Array, length: float, exponent: float) -> Array:
    """Return the superellipse from 0 at the end to 1 at `length` from the end."""
    inside = np.clip(1.0 - distance / length, 0.0, 1.0)
    return np.asarray((1.0 - inside**exponent) ** (1.0 / exponent))


def _rounded_polyline(
    x: Array, knots: tuple[tuple[float, float], ...], radius: tuple[float, ...]
) -> Array:
    position, value = np.array(knots).T
    slope = np.diff(value) / np.diff(position)
    line = value[0] + slope[0] * (x - position[0])
    for corner, change, width in zip(
        position[1:-1], np.diff(slope), radius, strict=True
    ):
        line = line + change * _ramp(x - corner, width)
    return np.asarray(line)
