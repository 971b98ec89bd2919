"""Meshes of quadratic quadrilaterals on a lattice of nodes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from skfem import Basis, ElementQuad1, ElementQuad2, MeshQuad, MeshQuad2

from torch_geometric_flare._not_converged import NotConverged

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

# Lattice offsets of scikit-fem's local nodes: corners, middles of the edges, center.
_OFFSETS = np.array(
    [(0, 0), (2, 0), (2, 2), (0, 2), (1, 0), (2, 1), (1, 2), (0, 1), (1, 1)]
)


@dataclass(frozen=True)
class QuadraticMesh:
    r"""Shape functions of all elements at their quadrature points.

    Nodes are numbered row by row, as in the lattice.

    Args:
        nodes: Nodes of each element, [E, 9].
        values: Shape functions, shared by all elements, [9, Q].
        gradients: Gradients of the shape functions, [E, 9, Q, 2].
        weights: Quadrature weights times Jacobian determinants, [E, Q].
        linear_values: Bilinear shape functions of the corners, in the order of the
            first four nodes, [4, Q].
    """

    nodes: Index
    values: Array
    gradients: Array
    weights: Array
    linear_values: Array

    @classmethod
    def from_lattice(cls, lattice: Array, periodic: bool = False) -> "QuadraticMesh":
        r"""Build the mesh whose elements have three by three nodes of a lattice.

        Args:
            lattice: Positions, [I, J, 2], J odd. The first axis followed by the second
                must turn counterclockwise.
            periodic: Whether row I equals row 0; then I is even, otherwise odd.

        Returns:
            The mesh, with elements in the order of the lattice.

        Raises:
            NotConverged: If an element is inverted.
        """
        rows, columns = lattice.shape[:2]
        start = np.stack(
            np.meshgrid(
                np.arange(0, rows if periodic else rows - 1, 2),
                np.arange(0, columns - 1, 2),
                indexing="ij",
            ),
            axis=-1,
        ).reshape(-1, 1, 2)
        offsets = start + _OFFSETS  # [E, 9, 2]
        nodes = offsets[..., 0] % rows * columns + offsets[..., 1]
        points = lattice.reshape(-1, 2)

        # scikit-fem numbers the corners first, then the middles.
        corners, cells = np.unique(nodes[:, :4], return_inverse=True)
        mesh = MeshQuad(points[corners].T.copy(), cells.reshape(-1, 4).T.copy())
        curved = MeshQuad2.from_mesh(mesh)
        positions = curved.doflocs.copy()
        positions[:, curved.dofs.element_dofs] = points[nodes.T].transpose(2, 0, 1)
        curved = MeshQuad2(positions, curved.t)
        basis = Basis(curved, ElementQuad2(), intorder=5)
        if not (curved.mapping().detDF(basis.X) > 0.0).all():
            raise NotConverged("an element of the mesh is inverted")
        return cls(
            nodes,
            np.stack([np.asarray(function[0])[0] for function in basis.basis]),
            np.stack([function[0].grad for function in basis.basis]).transpose(
                2, 0, 3, 1
            ),
            basis.dx,
            np.stack([ElementQuad1().lbasis(basis.X, i)[0] for i in range(4)]),
        )


def quadratic_interpolation(count: int, num_elements: int) -> Array:
    r"""Return the matrix from nodes on a line to evenly spaced points.

    Args:
        count: Number of points, from the first node to the last.
        num_elements: Number of consecutive elements of three nodes.

    Returns:
        Values of the nodes' shape functions at the points,
        [count, 2 * num_elements + 1].
    """
    position = np.linspace(0.0, num_elements, count)
    element = np.minimum(position.astype(np.int64), num_elements - 1)
    t = position - element
    shapes = ((2 * t - 1) * (t - 1), 4 * t * (1 - t), t * (2 * t - 1))
    matrix = np.zeros((count, 2 * num_elements + 1))
    for node, shape in enumerate(shapes):
        matrix[np.arange(count), 2 * element + node] = shape
    return matrix
