"""Simulated Darcy flow through a medium with two permeabilities."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.sparse import diags_array
from scipy.sparse.linalg import splu

from torch_geometric_flare._not_converged import NotConverged
from torch_geometric_flare.fields import Field, Fields

Array = npt.NDArray[np.float64]

_TOLERANCE = 1e-8


@dataclass(frozen=True)
class DarcyFlow:
    r"""Simulated pressure in porous media, on a square grid.

    The physics of the Darcy benchmark of "Fourier Neural Operator for Parametric
    Partial Differential Equations" (https://arxiv.org/abs/2010.08895): on the unit
    square, without units,

    $$-\nabla \cdot (a \nabla u) = 1, \qquad u = 0 \text{ on the boundary},$$

    where the permeability $a$ is 12 where a Gaussian random field is nonnegative and 3
    elsewhere. The field is

    $$\sum_{k \neq 0} \frac{\xi_k}{\pi^2 |k|^2 + 9}
    \cos(k_1 \pi x_1) \cos(k_2 \pi x_2)\, s_{k_1} s_{k_2}, \qquad
    \xi_k \sim N(0, 1), \quad s_0 = 1, \ s_k = \sqrt 2,$$

    over $0 \le k_1, k_2 <$ `modes`. The coefficients do not depend on the resolution,
    so the same random state gives the same medium on every grid.

    The equation is discretized by five-point central differences, with the arithmetic
    mean of $a$ on the faces, and solved directly on a grid of `solve_resolution`²
    points, of which every n-th point is kept. At 85 points, the pressure differs from
    that on the benchmark's 421² grid by about 0.7 % when solved at 85, 0.3 % at 169 and
    0.1 % at 253 (relative L2). Samples were never compared with official ones.

    Args:
        resolution: Number of points along each side of a sample.
        solve_resolution: Number of points along each side of the solver's grid;
            `solve_resolution - 1` must be a multiple of `resolution - 1`.
        modes: Number of cosines of the Gaussian field along each axis.

    Raises:
        ValueError: If a parameter is not an integer in its range, or the sample's grid
            is not a subgrid of the solver's.
    """

    resolution: int = 85
    solve_resolution: int = 169
    modes: int = 64

    name: ClassVar[str] = "simulated_darcy"
    fields: ClassVar[Fields] = (Field("pressure", 1, ""),)
    """The target: the pressure $u$."""
    features: ClassVar[Fields] = (Field("permeability", 1, ""),)
    """The input in addition to the coordinates: the permeability $a$."""
    coordinate_bounds: ClassVar[None] = None
    """The coordinates already lie in the unit square."""

    def __post_init__(self) -> None:
        for field, least in (("resolution", 3), ("solve_resolution", 3), ("modes", 2)):
            value = getattr(self, field)
            if type(value) is not int or value < least:
                raise ValueError(
                    f"`{field}` must be an integer of at least {least}, got {value!r}"
                )
        steps = self.resolution - 1
        if (self.solve_resolution - 1) % steps:
            refinement = -(-(self.solve_resolution - 1) // steps)
            raise ValueError(
                "`solve_resolution - 1` must be a multiple of `resolution - 1`, got "
                f"{self.solve_resolution} and {self.resolution}: use "
                f"solve_resolution={refinement * steps + 1}"
            )

    def sample(self, rng: np.random.Generator) -> dict[str, npt.NDArray[np.generic]]:
        r"""Return the raw arrays of one random medium.

        Args:
            rng: Random generator for the medium; equal states give equal samples.

        Returns:
            `pos`, [H * W, 2], in [0, 1], row by row, where the first coordinate varies
            with the first index; `permeability`, [H * W, 1], 3 or 12; `pressure`, [H *
            W, 1]; `grid`, (H, W). H = W = `resolution`.

        Raises:
            NotConverged: If the solution of the linear system is not accurate.
        """
        permeability = self.permeability(rng)
        pressure = self.solve(permeability)
        step = (self.solve_resolution - 1) // (self.resolution - 1)
        line = np.linspace(0.0, 1.0, self.resolution)
        pos = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1)
        return {
            "pos": pos.reshape(-1, 2),
            "permeability": permeability[::step, ::step].reshape(-1, 1),
            "pressure": pressure[::step, ::step].reshape(-1, 1),
            "grid": np.array([self.resolution, self.resolution]),
        }

    def permeability(self, rng: np.random.Generator) -> Array:
        r"""Draw a medium.

        Args:
            rng: Random generator for the coefficients of the Gaussian field.

        Returns:
            Permeability at the solver's nodes, 3 or 12, [S, S], with S =
            `solve_resolution`.
        """
        return np.where(self.gaussian_field(rng) >= 0.0, 12.0, 3.0)

    def gaussian_field(self, rng: np.random.Generator, power: float = 1.0) -> Array:
        """Draw the field whose sign determines the permeability.

        Args:
            rng: Random generator for the coefficients.
            power: Exponent of the amplitudes of the cosines; below 1, the field is
                rougher.

        Returns:
            The field at the solver's nodes, [S, S], with S = `solve_resolution`.
        """
        k = np.arange(self.modes)
        scale = 1.0 / (np.pi**2 * (k[:, None] ** 2 + k**2) + 9.0) ** power
        scale[0, 0] = 0.0
        coefficients = scale * rng.standard_normal(scale.shape)
        line = np.linspace(0.0, 1.0, self.solve_resolution)
        cosines = np.sqrt(2.0) * np.cos(np.pi * line[:, None] * k)
        cosines[:, 0] = 1.0
        return np.asarray(cosines @ coefficients @ cosines.T)

    def solve(self, permeability: Array, source: Array | float = 1.0) -> Array:
        r"""Compute the pressure in a medium.

        Args:
            permeability: Positive permeability at the nodes of a square grid, [S, S],
                with S of at least 3.
            source: Right-hand side of the equation at the nodes, [S, S], or a constant.

        Returns:
            Pressure at the nodes, [S, S], zero on the boundary.

        Raises:
            ValueError: If the permeability is not a square array of positive numbers,
                or the source is not finite or has another shape.
            NotConverged: If the solution of the linear system is not accurate.
        """
        a = np.asarray(permeability, dtype=np.float64)
        if a.ndim != 2 or a.shape[0] != a.shape[1] or len(a) < 3:
            raise ValueError(
                f"`permeability` must be of shape [S, S], S >= 3, got {a.shape}"
            )
        if not (np.isfinite(a).all() and a.min() > 0.0):
            raise ValueError(
                "`permeability` must be positive and finite, got values from "
                f"{a.min()} to {a.max()}"
            )
        forcing = np.asarray(source, dtype=np.float64)
        if forcing.shape not in ((), a.shape) or not np.isfinite(forcing).all():
            raise ValueError(
                f"`source` must be a finite number or {list(a.shape)} finite numbers, "
                f"got an array of shape {list(forcing.shape)}: {source}"
            )
        inner = len(a) - 2
        first = 0.5 * (a[1:, 1:-1] + a[:-1, 1:-1])  # faces across axis 0
        second = 0.5 * (a[1:-1, 1:] + a[1:-1, :-1])  # faces across axis 1
        diagonal = first[1:] + first[:-1] + second[:, 1:] + second[:, :-1]
        east = -second[:, 1:].reshape(-1)[:-1]
        east[inner - 1 :: inner] = 0.0  # the end of a row and the start of the next
        north = -first[1:-1].reshape(-1)
        bands = {0: diagonal.reshape(-1)}
        if inner > 1:  # otherwise, there is one unknown without neighbors
            bands |= {1: east, -1: east, inner: north, -inner: north}
        matrix = diags_array(
            list(bands.values()), offsets=list(bands.keys()), format="csc"
        )
        rhs = np.broadcast_to(forcing, a.shape)[1:-1, 1:-1].reshape(-1)
        rhs = rhs / (len(a) - 1) ** 2
        factors = splu(
            matrix,
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        solution = factors.solve(rhs)
        residual = np.linalg.norm(matrix @ solution - rhs)
        limit = _TOLERANCE * np.linalg.norm(rhs)
        if not residual <= limit:  # also if it is NaN
            raise NotConverged(
                f"the residual of the pressure is {residual:.2g}, expected at most "
                f"{limit:.2g}"
            )
        pressure = np.zeros(a.shape)
        pressure[1:-1, 1:-1] = solution.reshape(inner, inner)
        return pressure
