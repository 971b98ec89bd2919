"""Simulated distortion of metal parts printed by laser powder bed fusion."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array

from torch_geometric_flare._arguments import check_numbers
from torch_geometric_flare.fields import Field, Fields
from torch_geometric_flare.simulation.block_tridiagonal import Layer, solve_growing
from torch_geometric_flare.simulation.hexahedron import CORNERS, Hexahedron, von_mises
from torch_geometric_flare.simulation.printed_shape import PrintedShape

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

_FEWEST_NODES = 700


@dataclass(frozen=True)
class PrintedState:
    """A part after its last layer, on the plate.

    Args:
        pos: Undeformed nodes in mm, layer by layer from the plate, [N, 3].
        cells: Nodes of each cube, in the order of VTK's hexahedron, [E, 8].
        displacement: Displacements of the nodes in mm, [N, 3].
        stress: Stress at the cells' centers in MPa: xx, yy, zz, yz, zx, xy, [E, 6].
        von_mises_stress: Von Mises stress of the nodes in MPa, [N].
    """

    pos: Array
    cells: Index
    displacement: Array
    stress: Array
    von_mises_stress: Array


@dataclass(frozen=True)
class PrintedPart:
    r"""Simulated prints for training without downloads: random parts that warp.

    The physics of the LPBF benchmark of FLARE ([arXiv
    2508.12594](https://arxiv.org/abs/2508.12594)) in the simplest common form, the
    inherent strain method. A part (`PrintedShape`) grows in layers of 1 mm. Every new
    layer $l$ shrinks by $\varepsilon^*$ and pulls at the layers below:

    $$\nabla \cdot \Delta\sigma^{(l)} = 0, \qquad \Delta\sigma^{(l)} = D \big(
    \tfrac12 (\nabla \Delta u^{(l)} + \nabla \Delta u^{(l)\top}) - \varepsilon^*
    [\text{in layer } l] \big) \qquad \text{in layers } 1 \text{ to } l,$$

    with $\Delta u^{(l)} = 0$ on the plate, $z = 0$, and no traction elsewhere; $D$ is
    isotropic and linear. Nodes are undeformed when their first layer is added, and
    increments are summed: $u = \sum_l \Delta u^{(l)}$ and $\sigma = \sum_l
    \Delta\sigma^{(l)}$, each over the steps in which the point exists. Strains are
    small, each voxel is one trilinear cube, and the linear systems are solved exactly
    (`block_tridiagonal`).

    The von Mises stress of a node is that of the mean stress at its cells' centers.
    There is no plasticity, so stresses exceed the yield limit. The part stays on the
    plate, and heat is not computed. Samples were never compared with those of the
    benchmark, whose parts have other shapes and 736 to 47,542 nodes.

    Args:
        max_nodes: Parts with more nodes, or with fewer than 700, are rejected and
            redrawn. With 3,500, the median is near 1,900 nodes. Time grows with the
            square of the area of the layers times the number of nodes.
        young_modulus: Young's modulus in MPa.
        poisson_ratio: Poisson's ratio.
        inherent_strain: Inherent strain $\varepsilon^*$ along x, y and z.

    Raises:
        ValueError: If `max_nodes` is not an integer of at least 1,000, `young_modulus`
            is not positive, `poisson_ratio` is not between -1 and 0.5, or
            `inherent_strain` are not three numbers of magnitude below 0.1.
    """

    max_nodes: int = 3_500
    young_modulus: float = 110e3
    poisson_ratio: float = 0.342
    inherent_strain: tuple[float, float, float] = (-0.008, -0.008, 0.0)

    name: ClassVar[str] = "simulated_lpbf"
    fields: ClassVar[Fields] = (
        Field("displacement_z", 1, "mm"),
        Field("displacement", 3, "mm"),
        Field("von_mises_stress", 1, "MPa"),
    )
    """The targets."""
    features: ClassVar[Fields] = ()
    """Inputs in addition to the coordinates: none."""
    coordinate_bounds: ClassVar[
        tuple[tuple[float, float, float], tuple[float, float, float]]
    ] = ((0.0, 0.0, 0.0), (30.0, 30.0, 60.0))
    """Build space in mm, used to normalize the model input."""

    def __post_init__(self) -> None:
        if (
            isinstance(self.max_nodes, bool)
            or not isinstance(self.max_nodes, int)
            or self.max_nodes < 1000
        ):
            raise ValueError(
                "`max_nodes` must be an integer of at least 1000, got "
                f"{self.max_nodes!r}"
            )
        check_numbers(
            young_modulus=self.young_modulus, poisson_ratio=self.poisson_ratio
        )
        if not (self.young_modulus > 0.0 and math.isfinite(self.young_modulus)):
            raise ValueError(
                f"`young_modulus` must be positive, in MPa, got {self.young_modulus}"
            )
        if not -1.0 < self.poisson_ratio < 0.5:
            raise ValueError(
                "`poisson_ratio` must be between -1 and 0.5, both excluded, got "
                f"{self.poisson_ratio}"
            )
        if np.shape(self.inherent_strain) != (3,) or not all(
            abs(strain) < 0.1 for strain in self.inherent_strain
        ):
            raise ValueError(
                "`inherent_strain` must be three numbers of magnitude below 0.1, got "
                f"{self.inherent_strain}"
            )

    def sample(self, rng: np.random.Generator) -> dict[str, npt.NDArray[np.number]]:
        r"""Return the raw arrays of one random part.

        Args:
            rng: Random generator for the shape; equal states give equal samples.

        Returns:
            `pos` in mm, [N, 3]; `displacement` in mm, [N, 3], and its third component
            `displacement_z`, [N]; `von_mises_stress` in MPa, [N]; `cells` in VTK's
            order, [E, 8]; `edge_index`, the edges of the cells in both directions,
            [2, 2 · edges].
        """
        while True:
            shape = PrintedShape.sample(rng)
            if _FEWEST_NODES <= shape.num_nodes <= self.max_nodes:
                break
        state = self.solve(shape)
        return {
            "pos": state.pos,
            "displacement_z": state.displacement[:, 2],
            "displacement": state.displacement,
            "von_mises_stress": state.von_mises_stress,
            "cells": state.cells,
            "edge_index": _edge_index(state.cells),
        }

    def solve(self, shape: PrintedShape) -> PrintedState:
        """Compute the distortion of a part.

        Args:
            shape: The part.

        Returns:
            The displacements and stresses after the last layer.
        """
        cube = Hexahedron(1.0, self.young_modulus, self.poisson_ratio)
        stiffness = cube.stiffness()
        strain = np.array([*self.inherent_strain, 0.0, 0.0, 0.0])
        load = cube.load(strain)

        nodes, cells = shape.mesh()
        planes = np.bincount(nodes[:, 2])  # nodes of each
        first = np.concatenate([[0], np.cumsum(planes)])
        levels = nodes[cells[:, 0], 2]
        layers = [
            _assemble(cells[levels == level], first[level : level + 2], stiffness, load)
            for level in range(len(planes) - 1)
        ]
        total, later = solve_growing((3 * planes).tolist(), layers)
        displacement = np.concatenate(total).reshape(-1, 3)
        # A cell is undeformed when its layer is added, but its lower nodes have moved
        # before.
        lower = np.concatenate(later).reshape(-1, 3)[cells[:, :4]]
        deformation = np.concatenate([lower, displacement[cells[:, 4:]]], axis=1)
        strains = deformation.reshape(-1, 24) @ cube.strain().T - strain
        stress = strains @ cube.elasticity

        count = np.bincount(cells.ravel())
        mean = np.stack(
            [
                np.bincount(cells.ravel(), np.repeat(component, 8)) / count
                for component in stress.T
            ],
            axis=1,
        )
        return PrintedState(
            nodes.astype(np.float64), cells, displacement, stress, von_mises(mean)
        )


def _assemble(cells: Index, first: Index, stiffness: Array, load: Array) -> Layer:
    """Assemble a layer of cubes.

    Args:
        cells: Nodes of its cubes, [E, 8].
        first: Indices of the first nodes of the planes below and above, [2].
        stiffness: Stiffness of one cube, [24, 24].
        load: Load of one cube, [24].
    """
    below = int(first[1] - first[0])
    touched, upper = np.unique(cells[:, 4:] - first[1], return_inverse=True)
    rows = _unknowns(cells[:, :4] - first[0])  # [E, 12]
    columns = _unknowns(upper.reshape(-1, 4))

    def block(i: Index, j: Index, part: Array, shape: tuple[int, int]) -> coo_array:
        index = np.broadcast_arrays(i[:, :, None], j[:, None, :])
        values = np.broadcast_to(part, index[0].shape).ravel()
        return coo_array((values, tuple(a.ravel() for a in index)), shape)

    def total(i: Index, part: Array, size: int) -> Array:
        weights = np.broadcast_to(part, i.shape).ravel()
        return np.bincount(i.ravel(), weights, size).astype(np.float64)

    p, t = 3 * below, 3 * len(touched)
    return Layer(
        _unknowns(touched[None])[0],
        block(rows, rows, stiffness[:12, :12], (p, p)),
        block(rows, columns, stiffness[:12, 12:], (p, t)),
        block(columns, columns, stiffness[12:, 12:], (t, t)),
        total(rows, load[:12], p),
        total(columns, load[12:], t),
    )


def _unknowns(nodes: Index) -> Index:
    """Return the indices of the displacements of nodes [A, B], [A, 3 B]."""
    return (3 * nodes[:, :, None] + np.arange(3)).reshape(len(nodes), -1)


def _edge_index(cells: Index) -> Index:
    """Return the unique edges of the cells in both directions, [2, E]."""
    ends = np.argwhere(
        np.abs(CORNERS[:, None] - CORNERS).sum(axis=2) == 1
    )  # [24, 2]: each edge of a cube in both directions
    pairs: Index = np.unique(cells[:, ends].reshape(-1, 2), axis=0).T
    return pairs
