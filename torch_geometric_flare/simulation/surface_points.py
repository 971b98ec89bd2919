"""Points on quadrilaterals, uniformly distributed over their area."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def lattice_quads(lattice: Array) -> Array:
    r"""Return the quadrilaterals of a lattice of vertices.

    Args:
        lattice: Vertices (or values at them), [I + 1, J + 1, C].

    Returns:
        Corners in the order (i, j), (i, j+1), (i+1, j+1), (i+1, j), [I * J, 4, C].
    """
    corners = (lattice[:-1, :-1], lattice[:-1, 1:], lattice[1:, 1:], lattice[1:, :-1])
    return np.stack(corners, axis=2).reshape(-1, 4, lattice.shape[-1])


def nodal_mean(values: Array, areas: Array) -> Array:
    r"""Average values of panels to the vertices, weighted by the panels' areas.

    Args:
        values: Values of the panels of a lattice, [I, J].
        areas: Areas of the panels, [I, J].

    Returns:
        Mean at each vertex over the adjacent panels, [I + 1, J + 1].
    """
    rows, columns = values.shape
    total = np.zeros((2, rows + 1, columns + 1))
    for i in (0, 1):
        for j in (0, 1):
            around = total[:, i : i + rows, j : j + columns]
            around += np.stack([values * areas, areas])
    return np.asarray(total[0] / total[1])


def sample_quads(
    quads: Array, areas: Array, count: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.intp], Array]:
    r"""Draw points with probability proportional to area.

    Sampling is systematic: a quadrilateral of area $A$ gets $N A / \sum A$ points,
    randomly rounded up or down. Within it, the density follows the Jacobian of the
    bilinear map, which is linear on a flat quadrilateral.

    Args:
        quads: Corners in cyclic order, two of which may coincide, [P, 4, 3].
        areas: Areas, [P].
        count: Number of points N.
        rng: Random generator.

    Returns:
        The quadrilateral of each point, [N], in random order, and the bilinear weights
        of its four corners, [N, 4].
    """
    ends = np.cumsum(areas)
    ticks = (np.arange(count) + rng.random()) * (ends[-1] / count)
    panel = np.searchsorted(ends, ticks, side="right")
    panel = rng.permutation(np.minimum(panel, len(areas) - 1))

    edges = np.roll(quads, -1, axis=1) - quads
    cross = np.cross(edges, -np.roll(edges, 1, axis=1))
    normal = np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1])
    jacobian = np.einsum("pki,pi->pk", cross, normal)
    # Corner Jacobians at (u, v) = (0, 0), (0, 1), (1, 1), (1, 0).
    corner = np.clip(jacobian, 0.0, None)[panel].T
    u = _draw_linear(corner[0] + corner[1], corner[3] + corner[2], rng.random(count))
    v = _draw_linear(
        (1.0 - u) * corner[0] + u * corner[3],
        (1.0 - u) * corner[1] + u * corner[2],
        rng.random(count),
    )
    weights = [(1.0 - u) * (1.0 - v), (1.0 - u) * v, u * v, u * (1.0 - v)]
    return panel, np.stack(weights, axis=1)


def _draw_linear(start: Array, end: Array, quantile: Array) -> Array:
    """Invert the distribution on [0, 1] with a linear density from `start` to `end`."""
    root = np.sqrt((1.0 - quantile) * start**2 + quantile * end**2)
    return np.asarray(quantile * (start + end) / (start + root))
