r"""Linear elasticity on equal eight-node cubes."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CORNERS = np.array(
    [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    + [[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]]
)
"""Corners of a cube in VTK's order, [8, 3]."""


@dataclass(frozen=True)
class Hexahedron:
    r"""Trilinear cube of an isotropic elastic material.

    Strains and stresses have the components xx, yy, zz, yz, zx, xy; the last three
    strains are engineering strains. Degrees of freedom are ordered node by node.

    Args:
        size: Length of an edge in mm.
        young_modulus: Young's modulus in MPa.
        poisson_ratio: Poisson's ratio.
    """

    size: float
    young_modulus: float
    poisson_ratio: float

    @property
    def elasticity(self) -> Array:
        """The elasticity matrix in MPa, from strain to stress, [6, 6]."""
        e, nu = self.young_modulus, self.poisson_ratio
        matrix = np.zeros((6, 6))
        matrix[:3, :3] = nu
        np.fill_diagonal(matrix[:3, :3], 1.0 - nu)
        matrix[:3, :3] *= e / ((1.0 + nu) * (1.0 - 2.0 * nu))
        matrix[3:, 3:] = np.eye(3) * e / (2.0 * (1.0 + nu))
        return matrix

    def strain(self, point: tuple[float, float, float] = (0.5, 0.5, 0.5)) -> Array:
        """Return the matrix from degrees of freedom to strain at a point, [6, 24].

        Args:
            point: Position in the cube, from 0 to 1 along each axis.
        """
        weights = np.where(CORNERS == 1, point, 1.0 - np.asarray(point))  # [8, 3]
        slopes = np.where(CORNERS == 1, 1.0, -1.0) / self.size
        x, y, z = (
            slopes[:, axis] * np.delete(weights, axis, axis=1).prod(axis=1)
            for axis in range(3)
        )
        matrix = np.zeros((6, 8, 3))
        matrix[0, :, 0] = matrix[5, :, 1] = matrix[4, :, 2] = x
        matrix[1, :, 1] = matrix[5, :, 0] = matrix[3, :, 2] = y
        matrix[2, :, 2] = matrix[4, :, 0] = matrix[3, :, 1] = z
        return matrix.reshape(6, 24)

    def stiffness(self) -> Array:
        r"""Return $\int B^\top D B$ in N/mm with 2 × 2 × 2 Gauss points, [24, 24]."""
        matrix = np.zeros((24, 24))
        offset = 0.5 / np.sqrt(3.0)
        for x, y, z in product((0.5 - offset, 0.5 + offset), repeat=3):
            strain = self.strain((x, y, z))
            matrix += strain.T @ self.elasticity @ strain
        return matrix * self.size**3 / 8.0

    def load(self, eigenstrain: Array) -> Array:
        r"""Return $\int B^\top D \varepsilon^*$ in N for a constant eigenstrain, [24].

        Args:
            eigenstrain: The stress-free strain, [6].
        """
        # The mean of a strain that is linear in space is its value at the center.
        return self.size**3 * (self.strain().T @ self.elasticity @ eigenstrain)


def von_mises(stress: Array) -> Array:
    """Return the von Mises stress.

    Args:
        stress: Components xx, yy, zz, yz, zx, xy, [..., 6].

    Returns:
        The von Mises stress in the same unit, [...].
    """
    normal, shear = stress[..., :3], stress[..., 3:]
    jumps = normal - np.roll(normal, 1, axis=-1)
    squares = 0.5 * np.square(jumps).sum(axis=-1)
    result: Array = np.sqrt(squares + 3.0 * np.square(shear).sum(axis=-1))
    return result
