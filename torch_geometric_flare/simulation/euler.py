r"""Steady two-dimensional Euler equations on C-grids with finite volumes.

A. Jameson, W. Schmidt and E. Turkel, "Numerical solution of the Euler equations by
finite volume methods using Runge-Kutta time-stepping schemes", AIAA 81-1259 (1981).
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]  # single or double precision

GAMMA = 1.4
"""Ratio of the specific heats of air."""

_STAGES = ((0.25, 1.0), (1 / 6, 0.0), (0.375, 0.56), (0.5, 0.0), (1.0, 0.44))
"""Coefficient of each Runge-Kutta stage and weight of its new dissipation."""
_K2, _K4 = 0.5, 1.0 / 64.0
_SCALING = 0.6
_SMOOTHING = 1.0


class CGridEuler:
    r"""Euler equations around an airfoil, iterated to a steady state.

    $$\frac{d}{dt} \int_\Omega w \, dA + \oint_{\partial\Omega} \big( w\, v \cdot n +
    p\, (0, n_x, n_y, v \cdot n) \big) \, ds = 0, \qquad
    w = (\rho, \rho v_x, \rho v_y, \rho E),$$

    for a perfect gas, $p = (\gamma - 1)(\rho E - \tfrac12 \rho |v|^2)$, with $p = \rho
    = 1$ in the free stream, which is along +x at zero incidence. The unknowns are cell
    means. Fluxes use the mean state of two cells plus the dissipation of Jameson,
    Schmidt and Turkel,

    $$d = \lambda \big( \varepsilon_2\, \delta w - \varepsilon_4\, \delta^3 w \big),
    \qquad \varepsilon_2 = \tfrac12 \max \nu, \qquad \varepsilon_4 = \max(0,
    \tfrac1{64} - \varepsilon_2), \qquad \nu = \frac{|\delta^2 p|}{\sum p},$$

    where the maximum is over four cells, $\rho H$ replaces $\rho E$ in $w$, and
    $\lambda$ is $\lambda_i (1 + (\lambda_j / \lambda_i)^{0.6})$ with the spectral radii
    of both directions. There are five Runge-Kutta stages with local time steps; the
    first, third and fifth update the dissipation. Residuals are smoothed by $(1 -
    \delta^2)^{-1}$ along both directions.

    No fluid crosses the wall, whose pressure is extrapolated from two cells. The cells
    on both sides of the wake are neighbors. In the far field, including the outflow,
    Riemann invariants connect the flow to the free stream.

    Args:
        nodes: C-grid in the order of `AirfoilShape.c_grid`, [I + 1, J + 1, 2].
        wake_cells: Number of cells along each side of the wake.
        mach: Mach number of the free stream, below 1.
        dtype: Dtype of the computation.
        incidence: Angle in degrees from +x to the free stream, toward +y.

    Attributes:
        state: The four unknowns of the cells and two layers of ghost cells, outward,
            then along the airfoil, [4, J + 4, I + 4]; initially the free stream.
        pressure: Pressure of the same cells, [J + 4, I + 4].
    """

    def __init__(
        self,
        nodes: Array,
        wake_cells: int,
        mach: float,
        dtype: npt.DTypeLike = np.float32,
        incidence: float = 0.0,
    ) -> None:
        grid = np.asarray(nodes, dtype=np.float64).transpose(2, 1, 0)  # [2, J+1, I+1]
        along, out = np.diff(grid, axis=2), np.diff(grid, axis=1)
        # Products of normal and length of the faces, toward larger indices.
        i_faces = np.stack([out[1], -out[0]])  # [2, J, I + 1]
        j_faces = np.stack([-along[1], along[0]])  # [2, J + 1, I]
        outer = (-i_faces[..., 0], i_faces[..., -1], j_faces[:, -1])
        outward = np.concatenate(outer, axis=1)
        num_j, num_i = out.shape[1], along.shape[2]

        self.wake_cells = wake_cells
        self._i_faces: Array = i_faces.astype(dtype)
        self._j_faces: Array = j_faces.astype(dtype)
        self._i_mean: Array = 0.5 * (self._i_faces[..., 1:] + self._i_faces[..., :-1])
        self._j_mean: Array = 0.5 * (self._j_faces[:, 1:] + self._j_faces[:, :-1])
        self._outer: Array = (outward / np.hypot(*outward)).astype(dtype)
        self._smooth_i: Array = _smoothing_inverse(num_i).astype(dtype)
        self._smooth_j: Array = _smoothing_inverse(num_j).astype(dtype)
        speed, angle = mach * math.sqrt(GAMMA), math.radians(incidence)
        self._stream = speed * math.cos(angle), speed * math.sin(angle)
        energy = 1.0 / (GAMMA - 1.0) + 0.5 * speed**2
        self.state: Array = np.empty((4, num_j + 4, num_i + 4), dtype)
        self.state[:] = np.reshape((1.0, *self._stream, energy), (4, 1, 1))
        self.pressure: Array = np.ones((num_j + 4, num_i + 4), dtype)
        self.update_ghosts()

    @property
    def cells(self) -> Array:
        """A view of the state without ghost cells, [4, J, I]."""
        return self.state[:, 2:-2, 2:-2]

    def iterate(self, iterations: int, cfl: float) -> float:
        """Run a number of time steps.

        Args:
            iterations: Number of steps, at least one.
            cfl: Courant number, which determines the time step of each cell.

        Returns:
            Root-mean-square change of the density in the last step.
        """
        cells = self.cells
        for _ in range(iterations):
            start = cells.copy()
            radii = self._radii()
            step = cfl / (radii[0] + radii[1])
            dissipation = self._dissipation(*radii)
            for stage, (coefficient, weight) in enumerate(_STAGES):
                if stage and weight:
                    dissipation *= 1.0 - weight
                    dissipation += weight * self._dissipation(*radii)
                change = self._convection()
                change -= dissipation
                change *= coefficient * step
                change = self._smooth_j @ (change @ self._smooth_i)
                np.subtract(start, change, out=cells)
                self.update_ghosts()
        difference = np.subtract(cells[0], start[0], dtype=np.float64)
        return float(np.sqrt(np.mean(difference**2)))

    def residual(self) -> Array:
        """Return the net outflow of each cell, including dissipation, [4, J, I]."""
        return self._convection() - self._dissipation(*self._radii())

    def at_nodes(self) -> tuple[Array, Array, Array]:
        """Return density, velocity and pressure at nodes, averaged over adjacent cells.

        Shapes:
            - Output: $[I + 1, J + 1]$, $[I + 1, J + 1, 2]$, $[I + 1, J + 1]$, in double
              precision.
        """
        fields = np.concatenate([self.state[:3], self.pressure[None]]).astype(float)
        fields[1:3] /= fields[0]
        inner = fields[:, 1:-1, 1:-1]
        pairs = inner[:, 1:] + inner[:, :-1]
        density, u, v, pressure = 0.25 * (pairs[..., 1:] + pairs[..., :-1]).transpose(
            0, 2, 1
        )
        return density, np.stack([u, v], axis=-1), pressure

    def update_ghosts(self) -> None:
        """Update the ghost cells and all pressures from the state of the cells."""
        w, cells = self.state, self.cells
        inside = np.concatenate([cells[:, :, 0], cells[:, :, -1], cells[:, -1]], axis=1)
        far = self._far(inside, self._outer)
        num_j = cells.shape[1]
        w[:, 2:-2, :2] = far[:, :num_j, None]
        w[:, 2:-2, -2:] = far[:, num_j : 2 * num_j, None]
        w[:, -2:, 2:-2] = far[:, None, 2 * num_j :]
        w[:, -2:, :2] = w[:, -3:-2, :2]
        w[:, -2:, -2:] = w[:, -3:-2, -2:]
        cut = self.wake_cells + 2
        w[:, 1::-1, :cut] = w[:, 2:4, : -cut - 1 : -1]
        w[:, 1::-1, -cut:] = w[:, 2:4, cut - 1 :: -1]
        wall = w[:, :, cut:-cut]
        wall[:, 1] = 2.0 * wall[:, 2] - wall[:, 3]
        wall[:, 0] = 3.0 * wall[:, 2] - 2.0 * wall[:, 3]
        kinetic = 0.5 * (w[1] * w[1] + w[2] * w[2]) / w[0]
        np.multiply(w[3] - kinetic, GAMMA - 1.0, out=self.pressure)

    def _far(self, inside: Array, normal: Array) -> Array:
        """Return the far-field state next to cells, [4, n]."""
        u_far, v_far = self._stream
        density = inside[0]
        u, v = inside[1] / density, inside[2] / density
        p = (GAMMA - 1.0) * (inside[3] - 0.5 * density * (u * u + v * v))
        c, c_far = np.sqrt(GAMMA * p / density), math.sqrt(GAMMA)
        un = u * normal[0] + v * normal[1]
        un_far = u_far * normal[0] + v_far * normal[1]
        plus = un + 2.0 * c / (GAMMA - 1.0)
        minus = un_far - 2.0 * c_far / (GAMMA - 1.0)
        un_b = 0.5 * (plus + minus)
        c_b = 0.25 * (GAMMA - 1.0) * (plus - minus)
        out = un_b > 0.0
        entropy = np.where(out, p / density**GAMMA, 1.0)
        jump = un_b - np.where(out, un, un_far)
        u_b = np.where(out, u, u_far) + jump * normal[0]
        v_b = np.where(out, v, v_far) + jump * normal[1]
        rho_b = (c_b * c_b / (GAMMA * entropy)) ** (1.0 / (GAMMA - 1.0))
        p_b = rho_b * c_b * c_b / GAMMA
        energy = p_b / (GAMMA - 1.0) + 0.5 * rho_b * (u_b * u_b + v_b * v_b)
        return np.stack([rho_b, rho_b * u_b, rho_b * v_b, energy])

    def _radii(self) -> tuple[Array, Array]:
        """Return the spectral radii of the cells along both directions, [J, I]."""
        w = self.cells
        c = np.sqrt(GAMMA * self.pressure[2:-2, 2:-2] / w[0])
        i, j = (
            np.abs(w[1] * n[0] + w[2] * n[1]) / w[0] + c * np.hypot(*n)
            for n in (self._i_mean, self._j_mean)
        )
        return i, j

    def _convection(self) -> Array:
        """Return the net flux out of each cell, [4, J, I]."""
        w, p = self.state, self.pressure
        i_flux = _flux(
            0.5 * (w[:, 2:-2, 1:-2] + w[:, 2:-2, 2:-1]),
            0.5 * (p[2:-2, 1:-2] + p[2:-2, 2:-1]),
            self._i_faces,
        )
        j_flux = _flux(
            0.5 * (w[:, 1:-2, 2:-2] + w[:, 2:-1, 2:-2]),
            0.5 * (p[1:-2, 2:-2] + p[2:-1, 2:-2]),
            self._j_faces,
        )
        on = slice(self.wake_cells, -self.wake_cells)
        inner = slice(self.wake_cells + 2, -self.wake_cells - 2)
        p_wall = 1.5 * p[2, inner] - 0.5 * p[3, inner]
        j_flux[:, 0, on] = 0.0
        j_flux[1:3, 0, on] = p_wall * self._j_faces[:, 0, on]
        net = i_flux[:, :, 1:] - i_flux[:, :, :-1]
        net += j_flux[:, 1:]
        net -= j_flux[:, :-1]
        return net

    def _dissipation(self, i_radius: Array, j_radius: Array) -> Array:
        """Return the net artificial inflow of each cell, [4, J, I]."""
        w = self.state.copy()
        w[3] += self.pressure  # total enthalpy, which is constant
        p = self.pressure
        ratio = (j_radius / i_radius) ** _SCALING
        i_scale = i_radius * (1.0 + ratio)
        j_scale = j_radius * (1.0 + 1.0 / ratio)
        i_d = _differences(w[:, 2:-2], p[2:-2], i_scale, -1)
        j_d = _differences(w[:, :, 2:-2], p[:, 2:-2], j_scale, -2)
        j_d[:, 0, self.wake_cells : -self.wake_cells] = 0.0
        net = i_d[:, :, 1:] - i_d[:, :, :-1]
        net += j_d[:, 1:]
        net -= j_d[:, :-1]
        return net


def _flux(w: Array, p: Array, faces: Array) -> Array:
    """Return the flux of states through faces; overwrites the states."""
    volume = (w[1] * faces[0] + w[2] * faces[1]) / w[0]
    w[3] += p
    w *= volume
    w[1] += p * faces[0]
    w[2] += p * faces[1]
    return w


def _differences(w: Array, p: Array, radius: Array, axis: int) -> Array:
    """Return the dissipation at the faces along an axis, -1 or -2.

    Args:
        w: Quantities of cells and two layers of ghost cells along the axis.
        p: Their pressure.
        radius: Scaled spectral radii of the cells without ghost cells.
        axis: The axis.
    """
    if axis == -2:
        w, p, radius = (a.swapaxes(-1, -2) for a in (w, p, radius))
    total = p[:, 2:] + p[:, :-2]
    twice = 2.0 * p[:, 1:-1]
    sensor = np.abs(total - twice)
    sensor /= total + twice
    padded = _extended(sensor)
    pairs = np.maximum(padded[:, 1:], padded[:, :-1])
    e2 = _K2 * np.maximum(pairs[:, 2:], pairs[:, :-2])
    e4 = np.maximum(0.0, _K4 - e2)
    radius = _extended(radius)
    scale = 0.5 * (radius[:, 1:] + radius[:, :-1])
    e2 *= scale
    e4 *= scale
    first = w[..., 1:] - w[..., :-1]
    middle = first[..., 1:-1]
    third = first[..., 2:] + first[..., :-2]
    third -= 2.0 * middle
    third *= e4
    result: Array = e2 * middle
    result -= third
    return result.swapaxes(-1, -2) if axis == -2 else result


def _extended(values: Array) -> Array:
    """Repeat the first and the last column."""
    return np.concatenate([values[:, :1], values, values[:, -1:]], axis=1)


def _smoothing_inverse(cells: int) -> Array:
    r"""Return the inverse of $1 - \varepsilon \delta^2$ with free ends."""
    matrix = np.diag(np.full(cells, 1.0 + 2.0 * _SMOOTHING))
    matrix[[0, -1], [0, -1]] -= _SMOOTHING
    matrix -= _SMOOTHING * (np.eye(cells, k=1) + np.eye(cells, k=-1))
    inverse: Array = np.linalg.inv(matrix)
    return inverse
