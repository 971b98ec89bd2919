r"""Steady two-dimensional Euler equations on C-grids, by finite volumes.

A. Jameson, W. Schmidt and E. Turkel, "Numerical solution of the Euler equations by
finite volume methods using Runge-Kutta time-stepping schemes", AIAA 81-1259 (1981).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

GAMMA = 1.4
"""Ratio of the specific heats of air."""

_STAGES = ((0.25, 1.0), (1 / 6, 0.0), (0.375, 0.56), (0.5, 0.0), (1.0, 0.44))
"""Coefficient of each Runge-Kutta stage, and weight of new dissipation in it."""
_K2, _K4 = 0.5, 1.0 / 64.0
_SCALING = 0.6
_SMOOTHING = 1.0


class EulerFlow:
    """

    Attributes:
        state: Density, momentum and total energy of the cells, with two layers of
            ghosts around them, [4, J + 4, I + 4].
    """

    def __init__(
        self,
        nodes: Array,
        wake_cells: int,
        mach: float,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        grid = np.asarray(nodes, dtype=np.float64).transpose(2, 1, 0)  # [2, J+1, I+1]
        self.wake_cells = wake_cells
        along, out = np.diff(grid, axis=2), np.diff(grid, axis=1)
        i_faces = np.stack([out[1], -out[0]])  # [2, J, I + 1], towards +i
        j_faces = np.stack([-along[1], along[0]])  # [2, J + 1, I], towards +j
        self._i_faces = i_faces.astype(dtype)
        self._j_faces = j_faces.astype(dtype)
        self._i_mean = (0.5 * (i_faces[..., 1:] + i_faces[..., :-1])).astype(dtype)
        self._j_mean = (0.5 * (j_faces[:, 1:] + j_faces[:, :-1])).astype(dtype)
        self._i_length = np.hypot(*self._i_mean)
        self._j_length = np.hypot(*self._j_mean)
        outer = [-i_faces[..., 0], i_faces[..., -1], j_faces[:, -1]]
        self._outer = [(n / np.hypot(*n)).astype(dtype) for n in outer]
        self._smooth_i = _smoothing_inverse(i_faces.shape[2] - 1).astype(dtype)
        self._smooth_j = _smoothing_inverse(j_faces.shape[1] - 1).astype(dtype)
        nj, ni = out.shape[1], along.shape[2]
        speed = mach * np.sqrt(GAMMA)
        energy = 1.0 / (GAMMA - 1.0) + 0.5 * speed**2
        self._stream = (1.0, speed, 0.0, energy)
        self.state = np.empty((4, nj + 4, ni + 4), dtype=dtype)
        self.state[:] = np.array(self._stream, dtype)[:, None, None]
        self.pressure = np.ones((nj + 4, ni + 4), dtype=dtype)

    # ---------------------------------------------------------------
    def iterate(self, iterations: int, cfl: float) -> float:
        cells = self.state[:, 2:-2, 2:-2]
        residual = np.nan
        for _ in range(iterations):
            self.update_ghosts()
            radii = self._radii()
            start = cells.copy()
            step = cfl / (radii[0] + radii[1])
            dissipation = None
            for k, (coefficient, weight) in enumerate(_STAGES):
                if k:
                    self.update_ghosts()
                if k == 0:
                    dissipation = self._dissipation(*radii)
                elif weight:
                    dissipation *= 1.0 - weight
                    dissipation += weight * self._dissipation(*radii)
                change = self._convection()
                change -= dissipation
                change *= step * np.float32(coefficient)
                change = self._smooth_j @ (change @ self._smooth_i)
                np.subtract(start, change, out=cells)
            residual = float(np.sqrt(np.mean(np.square(change[0], dtype=np.float64))))
        self.update_ghosts()
        return residual

    def update_ghosts(self) -> None:
        w = self.state
        cells = w[:, 2:-2, 2:-2]
        w[:, 2:-2, :2] = self._far(cells[:, :, 0], self._outer[0])[:, :, None]
        w[:, 2:-2, -2:] = self._far(cells[:, :, -1], self._outer[1])[:, :, None]
        w[:, -2:, 2:-2] = self._far(cells[:, -1], self._outer[2])[:, None]
        w[:, -2:, :2] = w[:, -3:-2, :2]
        w[:, -2:, -2:] = w[:, -3:-2, -2:]
        cut = self.wake_cells + 2
        w[:, 1::-1, :cut] = w[:, 2:4, : -cut - 1 : -1]
        w[:, 1::-1, -cut:] = w[:, 2:4, cut - 1 :: -1]
        wall = w[:, :, cut:-cut]
        wall[:, 1] = 2.0 * wall[:, 2] - wall[:, 3]
        wall[:, 0] = 3.0 * wall[:, 2] - 2.0 * wall[:, 3]
        kinetic = (w[1] * w[1] + w[2] * w[2]) / w[0]
        kinetic *= -0.5
        kinetic += w[3]
        np.multiply(kinetic, GAMMA - 1.0, out=self.pressure)

    def _far(self, inside: Array, normal: Array) -> Array:
        rho, speed, _, _ = self._stream
        density = inside[0]
        u, v = inside[1] / density, inside[2] / density
        p = (GAMMA - 1.0) * (inside[3] - 0.5 * density * (u * u + v * v))
        c, c_far = np.sqrt(GAMMA * p / density), np.sqrt(GAMMA)
        un, un_far = u * normal[0] + v * normal[1], speed * normal[0]
        plus = un + 2.0 * c / (GAMMA - 1.0)
        minus = un_far - 2.0 * c_far / (GAMMA - 1.0)
        un_b = 0.5 * (plus + minus)
        c_b = 0.25 * (GAMMA - 1.0) * (plus - minus)
        out = un_b > 0.0
        entropy = np.where(out, p / density**GAMMA, 1.0)
        jump = un_b - np.where(out, un, un_far)
        u_b = np.where(out, u, speed) + jump * normal[0]
        v_b = np.where(out, v, 0.0) + jump * normal[1]
        rho_b = (c_b * c_b / (GAMMA * entropy)) ** (1.0 / (GAMMA - 1.0))
        p_b = rho_b * c_b * c_b / GAMMA
        energy = p_b / (GAMMA - 1.0) + 0.5 * rho_b * (u_b * u_b + v_b * v_b)
        return np.stack([rho_b, rho_b * u_b, rho_b * v_b, energy])

    def _radii(self) -> tuple[Array, Array]:
        w = self.state[:, 2:-2, 2:-2]
        c = np.sqrt(GAMMA * self.pressure[2:-2, 2:-2] / w[0])
        u, v = w[1] / w[0], w[2] / w[0]
        i = np.abs(u * self._i_mean[0] + v * self._i_mean[1]) + c * self._i_length
        j = np.abs(u * self._j_mean[0] + v * self._j_mean[1]) + c * self._j_length
        return i, j

    def _convection(self) -> Array:
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
        w = self.state.copy()
        w[3] += self.pressure
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
    volume = (w[1] * faces[0] + w[2] * faces[1]) / w[0]
    w[3] += p
    w *= volume
    w[1] += p * faces[0]
    w[2] += p * faces[1]
    return w


def _differences(w: Array, p: Array, radius: Array, axis: int) -> Array:
    if axis == -2:
        w, p, radius = (a.swapaxes(-1, -2) for a in (w, p, radius))
    total = p[:, 2:] + p[:, :-2]
    twice = 2.0 * p[:, 1:-1]
    sensor = np.abs(total - twice)
    sensor /= total + twice
    pair = np.maximum(sensor[:, 1:], sensor[:, :-1])
    e2 = np.empty((p.shape[0], p.shape[1] - 3), p.dtype)
    e2[:, 1:-1] = np.maximum(np.maximum(pair[:, :-2], pair[:, 2:]), pair[:, 1:-1])
    e2[:, 0] = np.maximum(pair[:, 0], pair[:, 1])
    e2[:, -1] = np.maximum(pair[:, -1], pair[:, -2])
    e2 *= _K2
    e4 = np.maximum(0.0, _K4 - e2)
    scale = np.empty_like(e2)
    scale[:, 1:-1] = 0.5 * (radius[:, 1:] + radius[:, :-1])
    scale[:, 0], scale[:, -1] = radius[:, 0], radius[:, -1]
    e2 *= scale
    e4 *= scale
    d1 = w[..., 1:] - w[..., :-1]
    d3 = d1[..., 2:] + d1[..., :-2]
    middle = d1[..., 1:-1]
    d3 -= 2.0 * middle
    result = e2 * middle
    d3 *= e4
    result -= d3
    return result.swapaxes(-1, -2) if axis == -2 else result


def _smoothing_inverse(cells: int) -> Array:
    r"""Return the inverse of $1 - \varepsilon \delta^2$ with free ends."""
    matrix = np.diag(np.full(cells, 1.0 + 2.0 * _SMOOTHING))
    matrix[[0, -1], [0, -1]] -= _SMOOTHING
    matrix -= _SMOOTHING * (np.eye(cells, k=1) + np.eye(cells, k=-1))
    return np.linalg.inv(matrix)
