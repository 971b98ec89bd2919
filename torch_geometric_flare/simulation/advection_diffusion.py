"""Simulated transport of a dissolved substance in a steady flow."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import splu
from skfem import Basis, BilinearForm, ElementTriP2, MeshTri
from skfem.helpers import dot, grad

from torch_geometric_flare._arguments import check_numbers
from torch_geometric_flare._not_converged import NotConverged
from torch_geometric_flare.fields import Field, Fields

Array = npt.NDArray[np.float64]
VectorField = Callable[[Array, Array], tuple[Array, Array]]
ScalarField = Callable[[Array, Array], Array]

_TOLERANCE = 1e-8
_MODES = 3  # maximum number of eddies of the flow along each axis
_BLOBS = 3


@dataclass(frozen=True)
class AdvectionDiffusion:
    r"""Simulated concentration in a stirred box at equal time steps.

    A substance is transported by a flow $u$ and diffuses on the unit square, without
    units:

    $$\frac{\partial c}{\partial t} + u \cdot \nabla c = \kappa \Delta c, \qquad
    \frac{\partial c}{\partial n} = 0 \text{ on the walls}.$$

    The flow is steady, divergence-free and does not cross the walls. Its stream
    function is

    $$\psi = \sum_{k, l = 1}^{3} a_{kl} \sin(k \pi x_1) \sin(l \pi x_2), \qquad
    a_{kl} \propto \frac{\xi_{kl}}{k^2 + l^2}, \quad \xi_{kl} \sim N(0, 1),$$

    scaled so that the root mean square of $|u|$ is `speed`. The initial concentration
    consists of three Gaussian blobs of height 0.5 to 1 and width (standard deviation)
    0.08 to 0.15 at random positions.

    Each sample has a separate mesh of triangles on a square lattice whose inner
    vertices are moved by up to a fifth of its spacing. The solver uses quadratic
    elements and the implicit midpoint rule (Crank–Nicolson) with `substeps` for each
    stored step. With the weak form $\int c_t v - c\, u \cdot \nabla v + \kappa \nabla c
    \cdot \nabla v = 0$ the amount $\int c$ is conserved. There is no limiter: where the
    mesh is too coarse for a thin layer, the concentration may leave its initial range.
    With the default parameters, four times finer steps change the last state by about
    0.2 %, and a mesh of half the spacing by about 0.8 % (relative L2, mean over 8).

    Args:
        resolution: Number of cells of the lattice along each side; a sample has its
            (`resolution` + 1)² vertices.
        num_steps: Number of stored steps after the initial state.
        step: Time from one stored state to the next.
        substeps: Number of solver steps per stored step.
        speed: Root-mean-square speed of the flow.
        diffusivity: The diffusivity $\kappa$.

    Raises:
        ValueError: If a parameter is not a number in its range.
    """

    resolution: int = 20
    num_steps: int = 20
    step: float = 0.1
    substeps: int = 4
    speed: float = 0.5
    diffusivity: float = 0.002

    name: ClassVar[str] = "simulated_advection_diffusion"
    features: ClassVar[Fields] = (Field("velocity", 2, ""),)
    """The input in addition to the coordinates: the flow $u$."""
    coordinate_bounds: ClassVar[None] = None
    """The coordinates already lie in the unit square."""

    def __post_init__(self) -> None:
        for name, least in (("resolution", 2), ("num_steps", 1), ("substeps", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(
                    f"`{name}` must be an integer of at least {least}, got {value!r}"
                )
        for name in ("step", "speed", "diffusivity"):
            value = getattr(self, name)
            check_numbers(**{name: value})
            if not (value > 0.0 and math.isfinite(value)):
                raise ValueError(f"`{name}` must be positive and finite, got {value}")

    @property
    def fields(self) -> Fields:
        """The target: the initial concentration and those after each step, in order."""
        return (Field("concentration", self.num_steps + 1, ""),)

    def sample(self, rng: np.random.Generator) -> dict[str, npt.NDArray[np.generic]]:
        r"""Return the raw arrays of one random flow and initial concentration.

        Args:
            rng: Random generator; equal states give equal samples.

        Returns:
            `pos`, the vertices in the unit square, [N, 2]; their `velocity`, [N, 2],
            and `concentration` at all T + 1 times, [N, T + 1]; `cells`, triangles, [K,
            3]. T = `num_steps`.

        Raises:
            NotConverged: If the solution of a linear system is not accurate.
        """
        mesh = self.mesh(rng)
        basis = Basis(mesh, ElementTriP2())
        velocity = self.velocity(rng)
        concentration = self.solve(basis, velocity, blobs(rng))
        return {
            "pos": mesh.p.T.copy(),
            "velocity": np.stack(velocity(*mesh.p), axis=1),
            "concentration": concentration[basis.nodal_dofs[0]],
            "cells": mesh.t.T.astype(np.int64),
        }

    def mesh(self, rng: np.random.Generator) -> MeshTri:
        """Draw a triangulation of the unit square.

        Args:
            rng: Random generator for the displacement of the inner vertices.

        Returns:
            A scikit-fem mesh.
        """
        line = np.linspace(0.0, 1.0, self.resolution + 1)
        mesh = MeshTri.init_tensor(line, line)
        points = mesh.p.copy()
        inner = np.setdiff1d(np.arange(points.shape[1]), mesh.boundary_nodes())
        reach = 0.2 / self.resolution
        points[:, inner] += rng.uniform(-reach, reach, (2, len(inner)))
        return MeshTri(points, mesh.t)

    def velocity(self, rng: np.random.Generator) -> VectorField:
        """Draw a flow.

        Args:
            rng: Random generator for the coefficients of the stream function.

        Returns:
            A function of both coordinates that returns both components.
        """
        k = np.arange(1, _MODES + 1)
        squares = k[:, None] ** 2 + k**2
        a = rng.standard_normal(squares.shape) / squares
        # Mean squares of the gradients of modes follow from those of sine and cosine.
        a *= self.speed / np.sqrt((a**2 * squares).sum() * np.pi**2 / 4)
        wave = np.pi * k

        def velocity(x: Array, y: Array) -> tuple[Array, Array]:
            first, second = wave * x[..., None], wave * y[..., None]
            u = np.einsum("...k,kl,...l", np.sin(first), a * wave, np.cos(second))
            v = np.einsum(
                "...k,kl,...l", np.cos(first), -a * wave[:, None], np.sin(second)
            )
            return u, v

        return velocity

    def solve(self, basis: Basis, velocity: VectorField, initial: ScalarField) -> Array:
        r"""Compute the concentration at equal time steps.

        Args:
            basis: Scikit-fem elements on a mesh of any domain.
            velocity: Function of both coordinates that returns both components of the
                flow $u$, which must be divergence-free and tangential to the walls.
            initial: Initial concentration as a function of both coordinates.

        Returns:
            Coefficients of the concentration at all times, [M, `num_steps` + 1] for M
            degrees of freedom; with quadratic elements, these are its values at
            `basis.doflocs`.

        Raises:
            NotConverged: If the solution of a linear system is not accurate.
        """

        @BilinearForm
        def transport(c, v, w):  # type: ignore[no-untyped-def]
            flow = np.stack(velocity(*w.x))
            return self.diffusivity * dot(grad(c), grad(v)) - c * dot(flow, grad(v))

        @BilinearForm
        def mass(c, v, w):  # type: ignore[no-untyped-def]
            return c * v

        weights = mass.assemble(basis)
        half = 0.5 * self.step / self.substeps * transport.assemble(basis)
        matrix, explicit = (weights + half).tocsc(), weights - half
        factors = splu(matrix)
        state = initial(*basis.doflocs)
        states = [state]
        for _ in range(self.num_steps):
            for _ in range(self.substeps):
                rhs = explicit @ state
                state = factors.solve(rhs)
                residual = np.linalg.norm(matrix @ state - rhs)
                limit = _TOLERANCE * np.linalg.norm(rhs)
                if not residual <= limit:  # also if it is NaN
                    raise NotConverged(
                        f"the residual of the concentration is {residual:.2g}, "
                        f"expected at most {limit:.2g}"
                    )
            states.append(state)
        return np.stack(states, axis=1)


def blobs(rng: np.random.Generator) -> ScalarField:
    """Draw the initial concentration.

    Args:
        rng: Random generator for positions, widths and heights.

    Returns:
        A function of both coordinates.
    """
    centers = rng.uniform(0.15, 0.85, (_BLOBS, 2))
    widths = rng.uniform(0.08, 0.15, _BLOBS)
    heights = rng.uniform(0.5, 1.0, _BLOBS)

    def initial(x: Array, y: Array) -> Array:
        total = np.zeros_like(x)
        for (a, b), width, height in zip(centers, widths, heights, strict=True):
            distance = (x - a) ** 2 + (y - b) ** 2
            total += height * np.exp(-0.5 * distance / width**2)
        return total

    return initial
