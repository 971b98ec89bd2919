"""Simulated surface pressure on notchback cars, by potential flow over a road."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from torch_geometric_flare._arguments import check_kind, check_numbers
from torch_geometric_flare.fields import Field, Fields
from torch_geometric_flare.simulation.notchback_body import NotchbackShape
from torch_geometric_flare.simulation.source_panels import SourcePanelFlow, SourcePanels
from torch_geometric_flare.simulation.surface_points import (
    lattice_quads,
    nodal_mean,
    sample_quads,
)

Array = npt.NDArray[np.float64]

BASE_PRESSURE = -0.18
MIRROR = np.array((1.0, -1.0, 1.0))
"""Factors of the coordinates that map one half of a car to the other."""


@dataclass(frozen=True)
class NotchbackFlow:
    """Flow over the half of a car with positive y; the other half is its mirror image.

    Args:
        lattice: Vertices in meters, [I + 1, J + 1, 3].
        normals: Outward unit normals of the panels, [I, J, 3].
        areas: Areas of the panels in m², [I, J].
        pressure_coefficient: Pressure coefficients of the panels, [I, J].
        wake_weight: Weight $w$ of the base pressure in the coefficients, [I, J].
        potential: The potential flow without the wake model.
    """

    lattice: Array
    normals: Array
    areas: Array
    pressure_coefficient: Array
    wake_weight: Array
    potential: SourcePanelFlow

    def corners(self) -> Array:
        """Return the panels of both halves, counterclockwise from outside, [2P, 4, 3].

        The second half mirrors the first.
        """
        corners = lattice_quads(self.lattice)
        diagonals = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
        normals = self.normals.reshape(-1, 3)
        inward = np.einsum("pi,pi->p", np.cross(*diagonals), normals).sum() < 0
        if inward:
            corners = corners[:, ::-1]
        return np.concatenate([corners, corners[:, ::-1] * MIRROR])

    def outline(self) -> Array:
        """Return the outline of the body in the plane of symmetry, x and z, [K, 2]."""
        keel, crest = self.lattice[:, 0], self.lattice[::-1, -1]
        return np.concatenate([keel, crest])[:, [0, 2]]


@dataclass(frozen=True)
class Notchback:
    r"""Simulated cars for training without downloads: random notchback bodies.

    Each sample is a new body (`NotchbackShape`, without wheels and mirrors) in
    potential flow over a road, computed with constant-source panels. The wind blows
    along +x against the nose of the car at x = 0; y = 0 is the plane of symmetry, z = 0
    the road, and z points up. Potential flow has no wake and therefore no drag: with
    `base_pressure`, the pressure on the rear face becomes

    $$C_p \leftarrow (1 - w) C_p - 0.18\, w, \qquad
    w = S\Big(\frac{n_x - 0.3}{0.4}\Big)\, S\Big(\frac{x / L - 0.85}{0.05}\Big),$$

    where $S$ is the smoothstep between 0 and 1 and $L$ the car's length. This models
    the level of a separated wake but does not compute it. The fields have the layout
    and the magnitude of measured and of finely simulated cars but were never compared
    with any.

    Args:
        num_points: Number of surface points per sample.
        panels_along: Number of panels from nose to tail.
        panels_around: Number of panels of the half body from the keel to the crest. The
            time for one car grows with the square (later the cube) of the number of
            panels.
        base_pressure: Whether to model the pressure in the wake.
        speed: Wind speed in m/s.

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
    """Inputs in addition to the coordinates: none."""
    coordinate_bounds: ClassVar[
        tuple[tuple[float, float, float], tuple[float, float, float]]
    ] = ((0.0, -0.95, 0.0), (4.85, 0.95, 1.5))
    """Box in meters around all bodies, used to normalize the model input."""
    reference_area: ClassVar[float] = 2.17
    """Reference area of force coefficients in m²."""

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
            rng: Random generator for the shape and the points; equal states give equal
                samples.

        Returns:
            `pos` in meters, [N, 3]; `pressure`, kinematic, $\tfrac{1}{2} U^2 C_p$ in
            m²/s², [N, 1]; `normal`, unit and outward, [N, 3]; `area` in m², [N], equal
            shares of the body's surface.
        """
        return self.surface_points(self.solve(NotchbackShape.sample(rng)), rng)

    def solve(self, shape: NotchbackShape) -> NotchbackFlow:
        """Compute the flow over a body.

        Args:
            shape: The body.

        Returns:
            The panels and their pressure coefficients.
        """
        return self.solve_lattice(shape.lattice(self.panels_along, self.panels_around))

    def solve_lattice(self, lattice: Array) -> NotchbackFlow:
        """Compute the flow over a body of arbitrary shape.

        Args:
            lattice: Vertices of the half of the body with positive y, in the order of
                `NotchbackShape.lattice`, `[panels_along + 1, panels_around + 1, 3]`.

        Returns:
            The panels and their pressure coefficients.

        Raises:
            ValueError: If `lattice` has another shape, or a panel has no area.
        """
        expected = (self.panels_along + 1, self.panels_around + 1, 3)
        if lattice.shape != expected:
            raise ValueError(
                f"`lattice` has shape {lattice.shape}, expected {expected}"
            )
        panels = SourcePanels(lattice_quads(lattice), mirrors=((1, 0.0), (2, 0.0)))
        potential = panels.solve()
        pressure = potential.pressure_coefficient
        weight = np.zeros_like(pressure)
        if self.base_pressure:
            weight = _smoothstep((panels.normals[:, 0] - 0.3) / 0.4) * _smoothstep(
                (panels.centers[:, 0] / lattice[..., 0].max() - 0.85) / 0.05
            )
            pressure = (1.0 - weight) * pressure + weight * BASE_PRESSURE
        grid = (self.panels_along, self.panels_around)
        return NotchbackFlow(
            lattice,
            panels.normals.reshape(*grid, 3),
            panels.areas.reshape(grid),
            pressure.reshape(grid),
            weight.reshape(grid),
            potential,
        )

    def surface(self, rng: np.random.Generator) -> dict[str, Array]:
        r"""Return the surface of the car on which `sample` draws points.

        Args:
            rng: Random generator for the shape, in the same state as for `sample`.

        Returns:
            `points` in meters, [V, 3]; `cells`, the vertices of each panel,
            counterclockwise from outside, [P, 4], with a repeated vertex for triangles;
            `pressure` of the cells, [P, 1], and `normal`, [P, 3], as in `sample`;
            `area` of the cells in m², [P].
        """
        return self.surface_of(self.solve(NotchbackShape.sample(rng)))

    def surface_of(self, flow: NotchbackFlow) -> dict[str, Array]:
        """Return the surface of a body in the format of `surface`.

        Args:
            flow: Flow over the body, from `solve`.

        Returns:
            The arrays described in `surface`.
        """
        # In the plane of symmetry, the coordinates of both halves are equal up to the
        # sign of zero.
        points, cells = np.unique(
            flow.corners().reshape(-1, 3).round(9) + 0.0, axis=0, return_inverse=True
        )
        pressure = 0.5 * self.speed**2 * flow.pressure_coefficient.reshape(-1, 1)
        normals, areas = flow.normals.reshape(-1, 3), flow.areas.reshape(-1)
        return {
            "points": points,
            "cells": cells.reshape(-1, 4),
            "pressure": np.concatenate([pressure, pressure]),
            "normal": np.concatenate([normals, normals * MIRROR]),
            "area": np.concatenate([areas, areas]),
        }

    def surface_points(
        self, flow: NotchbackFlow, rng: np.random.Generator
    ) -> dict[str, Array]:
        """Draw `num_points` points on both halves of a body, uniformly over the area.

        Pressures are averaged to the vertices and interpolated bilinearly. Normals are
        those of the panels, so that forces agree with sums over the panels.

        Args:
            flow: Flow over the body, from `solve`.
            rng: Random generator for the points.

        Returns:
            The arrays described in `sample`.
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
