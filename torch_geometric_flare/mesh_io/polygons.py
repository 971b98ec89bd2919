"""Centers and area vectors of polygons."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_CHUNK = 2**20  # polygons
# A sphere has 0.094, a flat sheet 0.
_LEAST_VOLUME = 1e-5

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def cell_corners(cells: Any) -> tuple[Integers, Integers]:
    """Return the offset of each cell of VTK's array and the points of all cells."""
    offsets = np.asarray(cells.GetOffsetsArray()).astype(np.int64)
    return offsets, np.asarray(cells.GetConnectivityArray()).astype(np.int64)


class Fans(NamedTuple):
    """Polygons, each split into triangles around the mean of its corners.

    Triangle $t$ has the corners `corner[t]`, `corner[following[t]]` and the mean.

    Attributes:
        faces: The range of polygons.
        first: Start of the triangles of each polygon.
        sizes: Number of triangles of each polygon, equal to its corners.
        mean: Mean of the corners of each polygon.
        corner: Point of the mesh at the first corner of each triangle.
        following: The next triangle of the same polygon.
        arm: Vector from the mean to the first corner of each triangle.
        vector: Area vector of each triangle.
    """

    faces: slice
    first: Integers
    sizes: Integers
    mean: Floats
    corner: Integers
    following: Integers
    arm: Floats
    vector: Floats


def polygon_fans(mesh: Any) -> Iterator[Fans]:
    """Split the polygons of a `pyvista.PolyData` into triangles, in blocks.

    Triangles outside a concave polygon have opposite area vectors, so that sums over
    the triangles are correct.
    """
    points = np.asarray(mesh.points)
    offsets = np.asarray(mesh.GetPolys().GetOffsetsArray())
    corners = np.asarray(mesh.GetPolys().GetConnectivityArray())
    number = mesh.GetNumberOfPolys()
    for start in range(0, number, _CHUNK):
        faces = slice(start, min(start + _CHUNK, number))
        bounds = offsets[faces.start : faces.stop + 1].astype(np.int64)
        corner = corners[bounds[0] : bounds[-1]].astype(np.int64)
        arm = points[corner].astype(np.float64)
        first, sizes = bounds[:-1] - bounds[0], np.diff(bounds)
        # Relative to one corner, because sums of large coordinates lose digits.
        origin = arm[first]
        arm -= np.repeat(origin, sizes, axis=0)
        mean = np.add.reduceat(arm, first) / sizes[:, None]
        arm -= np.repeat(mean, sizes, axis=0)
        following = np.arange(1, len(arm) + 1)
        following[first + sizes - 1] = first
        vector = np.cross(arm, arm[following]) / 2
        yield Fans(faces, first, sizes, mean + origin, corner, following, arm, vector)


def area_vectors(mesh: Any) -> tuple[Floats, Floats]:
    """Return the mean of the corners and the area vector of each polygon.

    Args:
        mesh: A `pyvista.PolyData` of only polygons.

    Returns:
        Means and area vectors, $[N, 3]$ each, in the unit of the mesh and its square.
    """
    centers, vectors = np.empty((2, mesh.GetNumberOfPolys(), 3))
    for fans in polygon_fans(mesh):
        centers[fans.faces] = fans.mean
        vectors[fans.faces] = np.add.reduceat(fans.vector, fans.first)
    return centers, vectors


def polygon_vectors(mesh: Any) -> tuple[Floats, Floats]:
    r"""Return centers and outward area vectors of the polygons of a closed surface.

    With corners $v_k$ of a polygon, in their order, and their mean $c$, its area vector
    is

    $$
    A = \frac{1}{2} \sum_k (v_k - c) \times (v_{k+1} - c)
    $$

    whose length is the area and whose direction is the normal. Neighbors must be
    oriented consistently. A common sign is chosen so that the enclosed volume,
    $\frac{1}{3} \sum c \cdot A$, is positive.

    Args:
        mesh: A `pyvista.PolyData` of only polygons.

    Returns:
        Centers and area vectors, $[N, 3]$ each, in the unit of the mesh and its square.

    Raises:
        ValueError: If the mesh has cells that are not polygons, or encloses no volume,
            so that it has no outer side.
    """
    number = mesh.GetNumberOfPolys() if hasattr(mesh, "GetNumberOfPolys") else 0
    if number == 0 or number != mesh.n_cells:
        raise ValueError(
            "the mesh has cells that are not polygons, or is not a surface"
        )
    centers, vectors = area_vectors(mesh)
    volume = np.sum((centers - centers.mean(0)) * vectors) / 3
    total = np.linalg.norm(vectors, axis=1).sum()
    if abs(volume) <= _LEAST_VOLUME * total**1.5:
        raise ValueError(
            f"the surface encloses no volume ({abs(volume):.3g} with an area of "
            f"{total:.3g}), so that no side of it is the outer one: is it open?"
        )
    return centers, np.copysign(1.0, volume) * vectors
