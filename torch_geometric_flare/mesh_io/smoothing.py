"""Smooth gradients on a surface."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def sobolev_smooth(mesh: Any, values: Floats, length: float) -> Floats:
    r"""Return the Sobolev gradient of derivatives by surface vertices.

    The derivative by each vertex of a mesh is rough and depends on the mesh. Its
    Sobolev gradient $s$ solves

    $$(M + \ell^2 K)\, s = g$$

    with the mass matrix $M$, lumped, and the stiffness matrix $K$ of linear elements on
    the triangles of the surface: lengths shorter than $\ell$ are damped. Of all
    displacements with the same norm $\int d^2 + \ell^2 |\nabla d|^2$, $-s$ lowers the
    quantity most, and it is a descent direction: $g \cdot s > 0$. With $\ell = 0$ it is
    the derivative per area.

    Coincident points are merged. Needs SciPy.

    Args:
        mesh: A `pyvista.PolyData` of polygons.
        values: Derivative by each vertex, $[V]$.
        length: The length $\ell$, in the unit of the mesh.

    Returns:
        The smoothed derivative per area, $[V]$; zero at vertices without an area.

    Raises:
        ValueError: If `length` is negative, or `values` are not one number for each
            vertex.
    """
    from scipy.sparse import coo_array, diags_array
    from scipy.sparse.linalg import cg

    if not 0 <= length < float("inf"):
        raise ValueError(f"length must not be negative, got {length}")
    if values.shape != (mesh.n_points,):
        raise ValueError(
            f"values have the shape {values.shape}, expected ({mesh.n_points},)"
        )
    points, place = np.unique(
        np.asarray(mesh.points, np.float64), axis=0, return_inverse=True
    )
    place = place.ravel()
    triangles = place[mesh.triangulate().regular_faces]
    corners = points[triangles]  # [T, 3, 3]
    # The edge opposite to each corner.
    edges = np.roll(corners, -2, axis=1) - np.roll(corners, -1, axis=1)
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1) / 2
    number = len(points)
    mass = np.bincount(triangles.ravel(), np.repeat(area / 3, 3), minlength=number)
    nonzero = area > 0
    local = np.einsum("tik,tjk->tij", edges[nonzero], edges[nonzero])
    local /= 4 * area[nonzero, None, None]
    rows = np.repeat(triangles[nonzero], 3, axis=1).ravel()
    columns = np.tile(triangles[nonzero], 3).ravel()
    stiffness = coo_array((local.ravel(), (rows, columns)), (number, number)).tocsr()
    used = mass > 0
    total = np.bincount(place, values, minlength=number)
    matrix = diags_array(np.where(used, mass, 1.0)) + length**2 * stiffness
    inverse = diags_array(1 / matrix.diagonal())
    smooth, failed = cg(
        matrix.tocsr(), np.where(used, total, 0.0), rtol=1e-10, atol=0.0, M=inverse
    )
    if failed:
        raise ValueError(
            f"the smoothing over length={length} did not converge: are there triangles "
            "that are nearly lines?"
        )
    result: Floats = np.where(used, smooth, 0.0)[place]
    return result
