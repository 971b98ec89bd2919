"""Centres and area vectors of the polygons of a closed surface."""

from typing import Any

import numpy as np
import numpy.typing as npt

_CHUNK = 2**20  # polygons
# A sphere has 0.094, a flat sheet 0.
_LEAST_VOLUME = 1e-5


def polygon_vectors(
    mesh: Any,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    r"""Return centres and outward area vectors of the polygons of a closed surface.

    With corners $v_k$ of a polygon, in their order, and their mean $c$, its area vector
    is

    $$
    A = \frac{1}{2} \sum_k (v_k - c) \times (v_{k+1} - c)
    $$

    whose length is the area and whose direction is the normal. Neighbours are taken
    to be wound alike. All vectors are turned at once so that the volume that they
    enclose, $\frac{1}{3} \sum c \cdot A$, is positive.

    Args:
        mesh: A `pyvista.PolyData` of polygons alone.

    Returns:
        Centres and area vectors, $[N, 3]$ each, in the unit of the mesh and its square.

    Raises:
        ValueError: If the mesh has cells that are no polygons, or encloses no volume,
            so that no side of it is the outer one.
    """
    number = mesh.GetNumberOfPolys() if hasattr(mesh, "GetNumberOfPolys") else 0
    if number == 0 or number != mesh.n_cells:
        raise ValueError("the mesh has cells that are no polygons, or is no surface")
    points = np.asarray(mesh.points)
    offsets = np.asarray(mesh.GetPolys().GetOffsetsArray())
    corners = np.asarray(mesh.GetPolys().GetConnectivityArray())
    centers, vectors = np.empty((2, number, 3))
    for start in range(0, number, _CHUNK):
        part = slice(start, min(start + _CHUNK, number))
        bounds = offsets[part.start : part.stop + 1].astype(np.int64)
        at = points[corners[bounds[0] : bounds[-1]]].astype(np.float64)
        first, sizes = bounds[:-1] - bounds[0], np.diff(bounds)
        centers[part] = np.add.reduceat(at, first) / sizes[:, None]
        at -= np.repeat(centers[part], sizes, axis=0)
        following = np.arange(1, len(at) + 1)
        following[first + sizes - 1] = first
        vectors[part] = np.add.reduceat(np.cross(at, at[following]), first) / 2
    volume = np.sum((centers - centers.mean(0)) * vectors) / 3
    total = np.linalg.norm(vectors, axis=1).sum()
    if abs(volume) <= _LEAST_VOLUME * total**1.5:
        raise ValueError(
            f"the surface encloses no volume ({abs(volume):.3g} with an area of "
            f"{total:.3g}), so that no side of it is the outer one: is it open?"
        )
    return centers, np.copysign(1.0, volume) * vectors
