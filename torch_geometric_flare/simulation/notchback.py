"""Simulated surface pressure on notchback cars: potential flow over a road."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from torch_geometric_flare._arguments import check_kind, check_numbers
from torch_geometric_flare.fields import Field, Fields
from torch_geometric_flare.simulation.notchback_body import NotchbackShape
from torch_geometric_flare.simulation.source_panels import SourcePanels
from torch_geometric_flare.simulation.surface_points import (
    lattice_quads,
    nodal_mean,
    sample_quads,
)

Array = npt.NDArray[np.float64]

_BASE_PRESSURE = -0.18


@dataclass(frozen=True)
class NotchbackFlow:
    """Flow over the half of a car with positive y; the other half mirrors it.

    Args:
        lattice: Vertices in metres, [I + 1, J + 1, 3].
        normals: Outward unit normals of the panels, [I, J, 3].
        areas: Areas of the panels in m², [I, J].
        pressure_coefficient: Of the panels, [I, J].
    """

    lattice: Array
    normals: Array
    areas: Array
    pressure_coefficient: Array


@dataclass(frozen=True)
class Notchback:
    r"""Simulated cars for training without downloads: random notchback bodies.

    Each sample is a new body (`NotchbackShape`, without wheels and mirrors) in
    potential flow over a road, by constant-source panels. The car faces the wind, which
    blows along +x; x = 0 is the nose, y = 0 the plane of symmetry, z = 0 the road, and
    z points up. Potential flow has no wake and therefore no drag: with `base_pressure`,
    the pressure on the rear face becomes

    $$C_p \leftarrow (1 - w) C_p - 0.18\, w, \qquad
    w = S\Big(\frac{n_x - 0.3}{0.4}\Big)\, S\Big(\frac{x / L - 0.85}{0.05}\Big),$$

    with $S$ the smoothstep between 0 and 1 and $L$ the car's length: the level of a
    separated wake, not its computation. The fields have the layout and the magnitude of
    measured and of finely simulated cars, and nothing more: they were never compared
    with any.

    Args:
        num_points: Surface points per sample.
        panels_along: Panels from nose to tail.
        panels_around: Panels of the half body from the keel to the crest. The time for
            one car grows with the square (later the cube) of the number of panels.
        base_pressure: Whether to model the pressure in the wake.
        speed: Speed of the wind in m/s.

    Raises:
        ValueError: If a count is not a positive integer (at least 8 panels along, 4
            around), or `speed` is not positive.
    """

    num_points: int = 40_000
    panels_along: int = 64
    panels_around: int = 24
    base_pressure: bool = True
    speed: float = 38.889

    name: ClassVar[str] = "simulated_notchback"
    fields: ClassVar[Fields] = (Field("pressure", 1, "m²/s²"),)
    """The target: kinematic pressure."""
    features: ClassVar[Fields] = ()
    """Inputs beyond the coordinates: none."""
    coordinate_bounds: ClassVar[
        tuple[tuple[float, float, float], tuple[float, float, float]]
    ] = ((0.0, -0.95, 0.0), (4.85, 0.95, 1.5))
    """Box in metres around every body, from which the model input is normalised."""
    reference_area: ClassVar[float] = 2.17
    """Area in m² to which force coefficients refer."""

    def __post_init__(self) -> None:
        for field, least in (
            ("num_points", 1),
            ("panels_along", 8),
            ("panels_around", 4),
        ):
            value = getattr(self, field)
            if type(value) is not int or value < least:
                raise ValueError(
                    f"`{field}` must be an integer of at least {least}, got {value!r}"
                )
        check_numbers(speed=self.speed)
        check_kind(bool, "True or False", base_pressure=self.base_pressure)
        if not (self.speed > 0.0 and math.isfinite(self.speed)):
            raise ValueError(f"`speed` must be positive, got {self.speed}")

    def sample(self, rng: np.random.Generator) -> dict[str, Array]:
        r"""Return the raw arrays of one random car.

        Args:
            rng: Source of the shape and of the points; equal states give equal samples.

        Returns:
            `pos` in metres, [N, 3]; `pressure`, kinematic, $\tfrac{1}{2} U^2 C_p$ in
            m²/s², [N, 1]; `normal`, unit and outward, [N, 3]; `area` in m², [N], equal
            shares of the body's surface.
        """
        return self.surface_points(self.solve(NotchbackShape.sample(rng)), rng)

    def solve(self, shape: NotchbackShape) -> NotchbackFlow:
        """Compute the flow over a body.

        Args:
            shape: The body.

        Returns:
            Its panels and their pressure coefficients.
        """
        return self.solve_lattice(shape.lattice(self.panels_along, self.panels_around))

    def solve_lattice(self, lattice: Array) -> NotchbackFlow:
        """Compute the flow over a body of any shape.

        Args:
            lattice: Vertices of the half of the body with positive y, in the order of
                `NotchbackShape.lattice`, `[panels_along + 1, panels_around + 1, 3]`.

        Returns:
            Its panels and their pressure coefficients.

        Raises:
            ValueError: If `lattice` has another shape, or a panel has no area.
        """
        expected = (self.panels_along + 1, self.panels_around + 1, 3)
        if lattice.shape != expected:
            raise ValueError(
                f"`lattice` has shape {lattice.shape}, expected {expected}"
            )
        panels = SourcePanels(lattice_quads(lattice), mirrors=((1, 0.0), (2, 0.0)))
        pressure = panels.solve().pressure_coefficient
        if self.base_pressure:
            weight = _smoothstep((panels.normals[:, 0] - 0.3) / 0.4) * _smoothstep(
                (panels.centers[:, 0] / lattice[..., 0].max() - 0.85) / 0.05
            )
            pressure = (1.0 - weight) * pressure + weight * _BASE_PRESSURE
        grid = (self.panels_along, self.panels_around)
        return NotchbackFlow(
            lattice,
            panels.normals.reshape(*grid, 3),
            panels.areas.reshape(grid),
            pressure.reshape(grid),
        )

    def surface(self, rng: np.random.Generator) -> dict[str, Array]:
        r"""Return the surface of the car that `sample` draws points on.

        Args:
            rng: Source of the shape, in the state that `sample` was given.

        Returns:
            `points` in metres, [V, 3]; `cells`, the vertices of each panel in turn,
            counterclockwise from outside, [P, 4], with one repeated where a panel is a
            triangle; `pressure` of the cells, [P, 1], and `normal`, [P, 3], as those of
            `sample`; `area` of the cells in m², [P].
        """
        return self.surface_of(self.solve(NotchbackShape.sample(rng)))

    def surface_of(self, flow: NotchbackFlow) -> dict[str, Array]:
        """Return the surface of a body, as `surface` does.

        Args:
            flow: Flow over the body, from `solve`.

        Returns:
            The arrays that `surface` describes.
        """
        corners = lattice_quads(flow.lattice)
        diagonals = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
        normals = flow.normals.reshape(-1, 3)
        inward = np.einsum("pi,pi->p", np.cross(*diagonals), normals).sum() < 0
        if inward:
            corners = corners[:, ::-1]
        mirror = np.array((1.0, -1.0, 1.0))
        both = np.concatenate([corners, corners[:, ::-1] * mirror])
        # Halves meet in the plane of symmetry, where coordinates agree but for the sign
        # of zero.
        points, cells = np.unique(
            both.reshape(-1, 3).round(9) + 0.0, axis=0, return_inverse=True
        )
        pressure = 0.5 * self.speed**2 * flow.pressure_coefficient.reshape(-1, 1)
        areas = flow.areas.reshape(-1)
        return {
            "points": points,
            "cells": cells.reshape(-1, 4),
            "pressure": np.concatenate([pressure, pressure]),
            "normal": np.concatenate([normals, normals * mirror]),
            "area": np.concatenate([areas, areas]),
        }

    def surface_points(
        self, flow: NotchbackFlow, rng: np.random.Generator
    ) -> dict[str, Array]:
        """Draw `num_points` points on both halves of a body, evenly over the area.

        Pressures are averaged to the vertices and interpolated bilinearly; normals are
        those of the panels, so that forces sum up as over the panels.

        Args:
            flow: Flow over the body, from `solve`.
            rng: Source of the points.

        Returns:
            The arrays that `sample` describes.
        """
        nodal = nodal_mean(flow.pressure_coefficient, flow.areas)
        nodal[[0, -1]] = nodal[[0, -1]].mean(axis=1, keepdims=True)  # single points
        quads = lattice_quads(flow.lattice)
        areas = flow.areas.reshape(-1)
        panel, weights = sample_quads(
            np.concatenate([quads, quads]),
            np.concatenate([areas, areas]),
            self.num_points,
            rng,
        )
        mirrored = panel >= len(areas)
        panel = panel % len(areas)
        side = np.where(mirrored[:, None], (1.0, -1.0, 1.0), 1.0)  # [N, 3]
        pos = np.einsum("nk,nki->ni", weights, quads[panel]) * side
        coefficient = np.einsum(
            "nk,nk->n", weights, lattice_quads(nodal[..., None])[panel, :, 0]
        )
        return {
            "pos": pos,
            "pressure": 0.5 * self.speed**2 * coefficient[:, None],
            "normal": flow.normals.reshape(-1, 3)[panel] * side,
            "area": np.full(self.num_points, 2.0 * areas.sum() / self.num_points),
        }


def _smoothstep(t: Array) -> Array:
    t = np.clip(t, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
