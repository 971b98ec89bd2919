"""Simulated stress in a hyperelastic unit cell with a void."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.linalg import splu

from torch_geometric_flare._arguments import check_numbers
from torch_geometric_flare._not_converged import NotConverged
from torch_geometric_flare.fields import Field, Fields
from torch_geometric_flare.simulation.quadratic_mesh import QuadraticMesh
from torch_geometric_flare.simulation.rivlin_saunders import (
    cauchy_stress,
    first_piola_kirchhoff,
    tangent,
)

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

_GROWTH = 1.15
_MODES = 5
_TOLERANCE = 1e-6
_MAX_STEPS = 20


@dataclass(frozen=True)
class HyperelasticSolution:
    r"""Equilibrium of a unit cell at a lattice of nodes around its void.

    The first index runs clockwise from the upper right corner, the second from the
    void to the outer boundary.

    Args:
        points: Positions before the deformation, [144, 27, 2].
        displacement: Displacements, [144, 27, 2].
        stress: Components xx, yy and xy of the Cauchy stress in Pa, [144, 27, 3].
        residuals: Norm of the residual forces after each step, divided by that of the
            load.
    """

    points: Array
    displacement: Array
    stress: Array
    residuals: tuple[float, ...]

    @property
    def von_mises_stress(self) -> Array:
        r"""Von Mises stress in Pa, [144, 27], see `Hyperelastic`."""
        xx, yy, xy = np.moveaxis(self.stress, -1, 0)
        return np.asarray(np.sqrt(xx**2 - xx * yy + yy**2 + 3.0 * xy**2))


@dataclass(frozen=True)
class Hyperelastic:
    r"""Simulated stress in a stretched unit cell with a void of random shape.

    The physics of the elasticity benchmark of "Fourier Neural Operator with Learned
    Deformations for PDEs on General Geometries" (https://arxiv.org/abs/2207.05209): the
    unit square is clamped on its lower edge and pulled upward by a `traction` in Pa on
    its upper edge; the other edges and the void are free. The void surrounds the
    center, with the radius

    $$r(\theta) = 0.2 + \frac{0.2}{1 + e^{\tilde r(\theta)}}, \qquad
    \tilde r = \sum_{k=1}^{5} \frac{4}{\sqrt{\pi (k^2 + 9)}}
    (A_k \cos k\theta + B_k \sin k\theta), \qquad A_k, B_k \sim N(0, 1).$$

    The material is incompressible Rivlin-Saunders rubber in plane stress, which
    eliminates the hydrostatic pressure: with the in-plane deformation gradient $F$, $C
    = F^T F$ and $J = \det F$, the energy density is

    $$W = C_1 (\mathrm{tr}\, C + J^{-2} - 3)
    + C_2 (J^2 + J^{-2}\, \mathrm{tr}\, C - 3), \qquad
    C_1 = 1.863 \cdot 10^5\ \mathrm{Pa}, \quad C_2 = 9.79 \cdot 10^3\ \mathrm{Pa}.$$

    The target is the von Mises stress of the Cauchy stress,
    $\sqrt{\sigma_{xx}^2 - \sigma_{xx} \sigma_{yy} + \sigma_{yy}^2 + 3 \sigma_{xy}^2}$.

    The solver uses biquadratic displacements on 72 by 13 quadrilaterals, finer toward
    the void, and Newton's method until the residual forces are below $10^{-6}$ of the
    load; the tangent is factorized again only if convergence is slow. The components of
    the stress are $L^2$-projected to the nodes, then combined. Compared with a finer
    mesh, the stress differs by up to 0.8 % inside and 2.5 % on the edges. A sample has
    972 nodes of this mesh, on 36 rays of 27 points. Samples were never compared with
    official ones, whose points are scattered.

    Args:
        traction: Upward force per unit length of the upper edge.

    Raises:
        ValueError: If `traction` is not positive and finite.
    """

    traction: float = 100.0

    name: ClassVar[str] = "simulated_elasticity"
    fields: ClassVar[Fields] = (Field("stress", 1, "Pa"),)
    """The target: the von Mises stress."""
    features: ClassVar[Fields] = ()
    """Inputs in addition to the coordinates: none."""
    coordinate_bounds: ClassVar[None] = None
    """The coordinates already lie in the unit square."""

    def __post_init__(self) -> None:
        check_numbers(traction=self.traction)
        if not (self.traction > 0.0 and math.isfinite(self.traction)):
            raise ValueError(
                f"`traction` must be positive and finite, got {self.traction}"
            )

    def sample(self, rng: np.random.Generator) -> dict[str, npt.NDArray[np.generic]]:
        r"""Return the raw arrays of one random unit cell.

        Args:
            rng: Random generator for the void's shape; equal states give equal samples.

        Returns:
            `pos`, undeformed, in the unit square, [972, 2]; `stress` in Pa, [972, 1];
            `cells`, quadrilaterals that fill the square around the void, [936, 4].

        Raises:
            NotConverged: If the solver does not converge.
        """
        solution = self.solve(void_radius(rng))
        return {
            "pos": solution.points[::4].reshape(-1, 2),
            "stress": solution.von_mises_stress[::4].reshape(-1, 1),
            "cells": _quads(36, 27),
        }

    def solve(self, radius: Array) -> HyperelasticSolution:
        r"""Compute the equilibrium around a void.

        Args:
            radius: Radius of the void at the angles $\pi/4 - 2 \pi i / 144$, [144],
                each in (0, 0.5).

        Returns:
            Displacements and stress.

        Raises:
            ValueError: If a radius is out of range.
            NotConverged: If an element is inverted or the solver does not converge.
        """
        radius = np.asarray(radius, dtype=np.float64)
        if radius.shape != (144,) or not ((radius > 0) & (radius < 0.5)).all():
            raise ValueError(
                "`radius` must hold 144 numbers between 0 and 0.5, got an array of "
                f"shape {radius.shape}: {radius}"
            )
        points = _lattice(radius)
        mesh = QuadraticMesh.from_lattice(points, periodic=True)
        displacement, residuals = _equilibrium(
            mesh, _load(points, self.traction), clamped=points[..., 1] == 0.0
        )
        stress = _nodal(mesh, cauchy_stress(_deformation(mesh, displacement)))
        return HyperelasticSolution(
            points, displacement.reshape(points.shape), stress, residuals
        )


def void_radius(rng: np.random.Generator) -> Array:
    r"""Draw the radius of a void.

    Args:
        rng: Random generator for the ten coefficients.

    Returns:
        Radius at the angles of `Hyperelastic.solve`, in (0.2, 0.4), [144].
    """
    k = np.arange(1, _MODES + 1)
    a, b = rng.standard_normal((2, _MODES)) * 4.0 / np.sqrt(np.pi * (k**2 + 9.0))
    angle = _angles()[:, None] * k
    field = np.cos(angle) @ a + np.sin(angle) @ b
    return np.asarray(0.2 + 0.2 / (1.0 + np.exp(field)))


def _angles() -> Array:
    return 0.25 * np.pi - 2.0 * np.pi * np.arange(144) / 144


def _lattice(radius: Array) -> Array:
    """Return nodes on rays from the void to the square, [144, 27, 2]."""
    angle = _angles()
    ray = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    # The spacing of vertices grows geometrically; the other nodes are halfway.
    share = (_GROWTH ** np.arange(14) - 1.0) / (_GROWTH**13 - 1.0)
    share = np.interp(np.arange(27), np.arange(0, 27, 2), share)
    outer = 0.5 / np.abs(ray).max(axis=1)
    distance = radius[:, None] + (outer - radius)[:, None] * share
    points = 0.5 + distance[..., None] * ray[:, None]
    outline = points[:, -1]
    for side in (0.0, 1.0):
        outline[np.abs(outline - side) < 1e-9] = side  # remove rounding errors
    return np.asarray(points)


def _load(points: Array, traction: float) -> Array:
    """Return the nodal forces of a constant traction on the upper edge, [D]."""
    force = np.zeros(points.shape)
    top = np.flatnonzero(points[:, -1, 1] == 1.0)
    upper = np.concatenate([top[top > 72], top[top <= 72]])  # from left to right
    x = points[upper, -1, 0]
    left, middle, right = x[:-2:2], x[1:-1:2], x[2::2]
    # The three shape functions times the derivative of x, integrated exactly.
    slope = np.stack(
        [4 * middle - 3 * left - right, right - left, left + 3 * right - 4 * middle]
    )
    for local, weight in enumerate((1.0, 4.0, 1.0)):
        np.add.at(
            force[:, -1, 1],
            upper[local : local + len(x) - 2 : 2],
            traction * weight / 6.0 * slope[local],
        )
    return force.reshape(-1)


def _equilibrium(
    mesh: QuadraticMesh, load: Array, clamped: npt.NDArray[np.bool_]
) -> tuple[Array, tuple[float, ...]]:
    """Return the displacements, [D], and the residual after each step."""
    unknowns = 2 * mesh.nodes[:, :, None] + np.arange(2)
    unknowns = unknowns.reshape(-1, 18)
    free = np.flatnonzero(~np.repeat(clamped.reshape(-1), 2))
    displacement = np.zeros(len(load))
    scale = np.linalg.norm(load)
    residual: Array = load
    residuals = [1.0]
    factors = None
    for _ in range(_MAX_STEPS):
        # Strains are small, so one tangent is usually sufficient for all steps.
        if factors is None or residuals[-1] > 0.1 * residuals[-2]:
            gradient = _deformation(mesh, displacement)
            factors = splu(
                _stiffness(mesh, gradient, unknowns, len(load))[free][:, free].tocsc(),
                permc_spec="MMD_AT_PLUS_A",
                diag_pivot_thresh=0.01,
                options={"SymmetricMode": True},
            )
        displacement[free] += factors.solve(residual[free])
        gradient = _deformation(mesh, displacement)
        if not (np.linalg.det(gradient) > 0.0).all():
            raise NotConverged("the material is inverted")
        residual = load - _internal_forces(mesh, gradient, unknowns, len(load))
        residuals.append(float(np.linalg.norm(residual[free]) / scale))
        if residuals[-1] <= _TOLERANCE:
            return displacement, tuple(residuals[1:])
    raise NotConverged(
        f"the residual forces are {residuals[-1]:.2g} of the load after "
        f"{_MAX_STEPS} steps, expected at most {_TOLERANCE}"
    )


def _deformation(mesh: QuadraticMesh, displacement: Array) -> Array:
    """Return the deformation gradients, [E, Q, 2, 2]."""
    local = displacement.reshape(-1, 2)[mesh.nodes]  # [E, 9, 2]
    gradient = np.einsum("eai,eaqj->eqij", local, mesh.gradients, optimize=True)
    return np.asarray(gradient + np.eye(2))


def _internal_forces(
    mesh: QuadraticMesh, gradient: Array, unknowns: Index, size: int
) -> Array:
    stress = first_piola_kirchhoff(gradient) * mesh.weights[..., None, None]
    forces = np.einsum("eqij,eaqj->eai", stress, mesh.gradients, optimize=True)
    return np.bincount(unknowns.reshape(-1), forces.reshape(-1), size).astype(
        np.float64
    )


def _stiffness(
    mesh: QuadraticMesh, gradient: Array, unknowns: Index, size: int
) -> coo_array:
    elements, _, points, _ = mesh.gradients.shape
    moduli = tangent(gradient) * mesh.weights[..., None, None, None, None]
    # Columns of `strain`: (point, component i, direction j).
    filled = np.zeros((elements, 9, 2, points, 2, 2))
    for i in range(2):
        filled[:, :, i, :, i] = mesh.gradients
    strain = filled.reshape(elements, 18, points, 4)
    flux = np.einsum(
        "epqc,eqcd->epqd", strain, moduli.reshape(elements, points, 4, 4), optimize=True
    )
    blocks = flux.reshape(elements, 18, -1) @ strain.reshape(
        elements, 18, -1
    ).transpose(0, 2, 1)
    rows = np.repeat(unknowns, 18, axis=1).reshape(-1)
    columns = np.tile(unknowns, 18).reshape(-1)
    return coo_array((blocks.reshape(-1), (rows, columns)), shape=(size, size)).tocsr()


def _nodal(mesh: QuadraticMesh, stress: Array) -> Array:
    """Return the stress projected to the nodes, xx, yy and xy, [144, 27, 3]."""
    size = mesh.nodes.max() + 1
    values = np.stack([stress[..., 0, 0], stress[..., 1, 1], stress[..., 0, 1]], -1)
    rhs = np.zeros((size, 3))
    local = np.einsum(
        "aq,eq,eqc->eac", mesh.values, mesh.weights, values, optimize=True
    )
    np.add.at(rhs, mesh.nodes, local)
    mass = np.einsum(
        "aq,bq,eq->eab", mesh.values, mesh.values, mesh.weights, optimize=True
    )
    rows, columns = np.repeat(mesh.nodes, 9, axis=1), np.tile(mesh.nodes, 9)
    matrix = coo_array(
        (mass.reshape(-1), (rows.reshape(-1), columns.reshape(-1))), shape=(size, size)
    )
    factors = splu(
        matrix.tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    return np.asarray(factors.solve(rhs).reshape(144, 27, 3))


def _quads(lines: int, rings: int) -> Index:
    """Return the quadrilaterals between neighboring lines and rings, [K, 4]."""
    point = np.arange(lines * rings).reshape(lines, rings)
    after = np.roll(point, -1, axis=0)
    # Counterclockwise, because lines run clockwise and rings outward.
    corners = (point[:, :-1], point[:, 1:], after[:, 1:], after[:, :-1])
    return np.stack(corners[::-1], axis=-1).reshape(-1, 4)
