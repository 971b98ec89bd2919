"""Deformed NACA 0012 airfoils and the C-grids around them."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

Array = npt.NDArray[np.float64]

WAKE_CELLS = 50
"""Number of cells of a C-grid along each side of the wake."""
SURFACE_CELLS = 120
"""Number of cells along the airfoil, half of them on each side."""
OUTWARD_CELLS = 50
"""Number of cells from the airfoil to the far field."""
FAR_FIELD = 40.0
"""Distance of the outer boundary, in chords."""

_NODES_X = np.array([-0.25, 0.25, 0.75, 1.25])
_NODES_Y = np.array([-0.1, 0.1])


@dataclass(frozen=True)
class AirfoilShape:
    r"""NACA 0012 airfoil, deformed by a map of the plane.

    Eight nodes lie on the corners and the long sides of a box of 1.5 × 0.2 around the
    airfoil of unit chord, at $x_a = -0.25, 0.25, 0.75, 1.25$ and $y_b = \mp 0.1$. Each
    node has a vertical displacement $d_{ba}$, and a point of the airfoil moves by

    $$y \leftarrow y + \sum_{a=1}^{4} \sum_{b=1}^{2} L_a(x)\, M_b(y)\, d_{ba},$$

    where $L_a$ are the cubic and $M_b$ the linear Lagrange polynomials of the nodes.

    Args:
        displacements: Displacements in chords of the four lower and the four upper
            nodes, from front to rear, `((d_11, …), (d_21, …))`.

    Raises:
        ValueError: If `displacements` are not 2 × 4 finite numbers, or the sides of the
            deformed airfoil intersect before the trailing edge.
    """

    displacements: tuple[tuple[float, ...], tuple[float, ...]] = (
        (0.0, 0.0, 0.0, 0.0),
        (0.0, 0.0, 0.0, 0.0),
    )

    def __post_init__(self) -> None:
        lengths = [len(row) for row in self.displacements]
        if lengths != [4, 4] or not np.isfinite(self.displacements).all():
            raise ValueError(
                "`displacements` must be two rows of four finite numbers, got "
                f"{self.displacements!r}"
            )
        x = np.linspace(0.0, 1.0, 201)
        scale = 1.0 + np.diff(self._row_displacements(x), axis=0)[0] / np.ptp(_NODES_Y)
        if scale.min() <= 0.0:
            raise ValueError(
                f"`displacements` {self.displacements} turn the airfoil inside out at "
                f"x = {x[scale.argmin()]:.2f}: choose smaller displacements"
            )

    @classmethod
    def sample(cls, rng: np.random.Generator, deformation: float) -> "AirfoilShape":
        """Draw a random shape.

        Args:
            rng: Random generator for the eight displacements.
            deformation: Maximum displacement in chords; all are drawn uniformly.
        """
        lower, upper = rng.uniform(-deformation, deformation, (2, 4)).tolist()
        return cls((tuple(lower), tuple(upper)))

    def surface(self, cells: int = SURFACE_CELLS) -> Array:
        r"""Return points from the trailing edge along the lower side and back above.

        Their abscissas are the mean of uniform and cosine spacing, finer at both edges.

        Args:
            cells: Number of intervals, even.

        Shapes:
            - Output: $[\text{cells} + 1, 2]$, in chords; first and last are equal.
        """
        angle = np.linspace(-np.pi, np.pi, cells + 1)
        linear = np.abs(angle) / np.pi
        x = 0.5 * linear + 0.25 * (1.0 - np.cos(angle))
        y = np.sign(angle) * _naca0012(x)
        rows = self._row_displacements(x)
        upper = (y - _NODES_Y[0]) / np.ptp(_NODES_Y)
        return np.stack([x, y + (1.0 - upper) * rows[0] + upper * rows[1]], axis=1)

    def c_grid(self, refinement: int = 1) -> Array:
        r"""Return the nodes of a C-grid around the airfoil.

        The first index runs from the outflow below the wake to the trailing edge, along
        the lower side to the leading edge and back above. The second index runs from
        the airfoil and the wake to the far field, on straight lines with geometrically
        growing intervals. Nodes 0, 1, … of the wake coincide with nodes 220, 219, ….

        Args:
            refinement: Number of cells along each side of a cell of the grid of 221 ×
                51 nodes.

        Shapes:
            - Output: $[220\,r + 1, 50\,r + 1, 2]$ for a `refinement` of $r$, in chords.
        """
        surface = self.surface(refinement * SURFACE_CELLS)
        wake_cells = refinement * WAKE_CELLS
        ends = np.linalg.norm(surface[[1, -2]] - surface[0], axis=1)
        first = float(ends.mean())
        length = FAR_FIELD - 1.0
        wake = np.tile(surface[0], (wake_cells, 1))
        wake[:, 0] += (length * _geometric(wake_cells, first / length))[:0:-1]
        inner = np.concatenate([wake, surface, wake[::-1]])

        # The outer boundary is straight along the wake and a semicircle ahead. Its
        # points are dense above the trailing edge, so that lines leave the airfoil
        # steeply.
        turn = np.linspace(-1.0, 1.0, len(surface))
        angle = np.sign(turn) * (1.0 - (1.0 - np.abs(turn)) ** 2)
        angle = np.pi * (1.0 - 0.5 * angle)
        circle = FAR_FIELD * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        circle[:, 0] += 1.0
        below = np.stack([wake[:, 0], np.full(wake_cells, -FAR_FIELD)], axis=1)
        outer = np.concatenate([below, circle, below[::-1] * (1.0, -1.0)])

        spacing = 2.0 / (refinement * SURFACE_CELLS)
        growth = _geometric(refinement * OUTWARD_CELLS, spacing / FAR_FIELD)
        nodes: Array = inner[:, None] + growth[:, None] * (outer - inner)[:, None]
        return nodes

    def _row_displacements(self, x: Array) -> Array:
        """Return the cubic interpolants of both rows of nodes, [2, *x.shape]."""
        basis = [
            math.prod((x - c) / (a - c) for c in _NODES_X if c != a) for a in _NODES_X
        ]
        rows: Array = np.asarray(self.displacements) @ np.stack(basis)
        return rows


def _naca0012(x: Array) -> Array:
    """Return the half thickness with a closed trailing edge."""
    polynomial = x * (-0.1260 + x * (-0.3516 + x * (0.2843 - 0.1036 * x)))
    thickness: Array = 0.6 * (0.2969 * np.sqrt(x) + polynomial)
    return thickness


def _geometric(cells: int, first: float) -> Array:
    """Return fractions from 0 to 1; intervals grow geometrically from `first`."""

    def excess(log_ratio: float) -> float:
        return first * float(np.exp(log_ratio * np.arange(cells)).sum()) - 1.0

    ratio: Any = brentq(excess, 0.0, 1.0, xtol=1e-14)
    steps = np.exp(ratio * np.arange(cells))
    return np.concatenate([[0.0], np.cumsum(steps) / steps.sum()])
