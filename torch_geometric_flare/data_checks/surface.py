"""Checks of one mesh: edges, cells and normals."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyvista as pv
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from torch_geometric_flare.data_checks.findings import Finding
from torch_geometric_flare.mesh_io import oriented_faces
from torch_geometric_flare.mesh_io.geometry import own_normals
from torch_geometric_flare.mesh_io.polygons import area_vectors

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# Shares of the diagonal: borders closer than the first are a crack, and cells smaller
# than the square of the second are degenerate.
_CRACK, _NO_AREA = 1e-5, 1e-9
_MOST_PARTS = 2000
# Share of the area whose normals may be wrong: slivers have random normals.
_TURNED = 1e-3


@dataclass(frozen=True)
class Faces:
    """The polygons of a surface mesh, with coincident points merged.

    Args:
        mesh: A mesh of triangles, quads and polygons.
    """

    mesh: Any

    @cached_property
    def surface(self) -> Any:
        """Only the faces, without arrays."""
        polygons = isinstance(self.mesh, pv.PolyData)
        cells = self.mesh.faces if polygons else self.mesh.cells
        return pv.PolyData(np.asarray(self.mesh.points, np.float64), faces=cells)

    @cached_property
    def size(self) -> float:
        """Diagonal of the bounding box."""
        return float(self.surface.length) or 1.0

    @cached_property
    def sizes(self) -> Integers:
        """Number of corners of each polygon."""
        return np.diff(self._offsets)

    @cached_property
    def _offsets(self) -> Integers:
        offsets = np.asarray(self.surface.GetPolys().GetOffsetsArray())
        return offsets.astype(np.int64)

    @cached_property
    def corner(self) -> Integers:
        """The corners of all polygons, with equal indices for coincident points."""
        _, place = np.unique(self.surface.points, axis=0, return_inverse=True)
        corners = np.asarray(self.surface.GetPolys().GetConnectivityArray())
        joined: Integers = place.ravel()[corners].astype(np.int64)
        return joined

    @cached_property
    def edges(self) -> tuple[Integers, Integers, Integers]:
        """Both ends of each side of each polygon, in order, and its polygon."""
        following = np.arange(1, len(self.corner) + 1)
        following[self._offsets[1:] - 1] = self._offsets[:-1]
        start, end = self.corner, self.corner[following]
        owner = np.repeat(np.arange(len(self.sizes)), self.sizes)
        real = start != end
        return start[real], end[real], owner[real]

    @cached_property
    def sides(self) -> tuple[Integers, Integers, Integers]:
        """For each edge: first side, number of sides, and sum of directions.

        Opposite sides of an edge, as in consistently oriented neighbors, sum to zero.
        """
        start, end, _ = self.edges
        key = np.minimum(start, end) * (self.corner.max() + 1) + np.maximum(start, end)
        _, first, place, count = np.unique(
            key, return_index=True, return_inverse=True, return_counts=True
        )
        direction = np.bincount(place.ravel(), np.where(start < end, 1, -1))
        return first, count, direction.astype(np.int64)

    @cached_property
    def areas(self) -> tuple[Floats, Floats]:
        """Centers and area vectors of the polygons, in their orientation."""
        return area_vectors(self.surface)

    @cached_property
    def open_edges(self) -> Floats:
        """Midpoint of each edge with a single polygon, $[K, 3]$."""
        first, count, _ = self.sides
        return self.middle(first[count == 1])

    @cached_property
    def parts(self) -> Integers:
        """The connected component of each polygon."""
        start, end, owner = self.edges
        number = len(self.sizes)
        total = number + int(self.corner.max()) + 1
        links = (np.ones(len(owner), bool), (owner, number + start))
        _, part = connected_components(coo_array(links, shape=(total, total)), False)
        parts: Integers = part[:number].astype(np.int64)
        return parts

    def middle(self, sides: Integers) -> Floats:
        """Return the midpoints of some sides."""
        corners = np.asarray(self.surface.GetPolys().GetConnectivityArray())
        # Coordinates by merged point index.
        points = np.empty((self.corner.max() + 1, 3))
        points[self.corner] = np.asarray(self.surface.points)[corners]
        start, end, _ = self.edges
        middle: Floats = (points[start[sides]] + points[end[sides]]) / 2
        return middle


def check_surface(faces: Faces, name: str) -> Iterator[Finding]:
    """Check the faces of one mesh.

    Args:
        faces: The faces.
        name: Name of the mesh.
    """
    yield from _check_edges(faces, name)
    yield from _check_points(faces, name)
    yield from _check_cells(faces, name)
    yield from _check_winding(faces, name)
    yield from _check_normals(faces, name)


def describe_borders(faces: Faces) -> str:
    """Describe how many edges are open and whether borders nearly meet."""
    places = faces.open_edges
    text = f"{len(places):,} of {len(faces.sides[0]):,} edges belong to one face"
    if len(places) < 2:
        return text
    near = cKDTree(places).query(places, k=2)[0][:, 1] < _CRACK * faces.size
    if near.any():
        text += f"; {near.sum():,} of them nearly meet another border: a crack"
    return text


def _check_edges(faces: Faces, name: str) -> Iterator[Finding]:
    first, count, _ = faces.sides
    crowded = first[count > 2]
    if len(crowded):
        yield Finding(
            name,
            "edges",
            "warning",
            f"{len(crowded):,} edges belong to more than two faces",
            "remove faces inside of the body, or split the edges",
            faces.middle(crowded),
        )


def _check_points(faces: Faces, name: str) -> Iterator[Finding]:
    points = faces.surface.n_points
    repeated = points - int(np.unique(faces.corner).size)
    if repeated > 0:
        yield Finding(
            name,
            "duplicated points",
            "warning",
            f"{repeated:,} of {points:,} points coincide with another",
            "merge them (PyVista: mesh.clean()), unless they split the surface at a "
            "sharp edge",
        )


def _check_cells(faces: Faces, name: str) -> Iterator[Finding]:
    centers, vectors = faces.areas
    area = np.linalg.norm(vectors, axis=1)
    empty = area <= (_NO_AREA * faces.size) ** 2
    if empty.any():
        yield Finding(
            name,
            "empty cells",
            "warning",
            f"{empty.sum():,} of {len(area):,} faces have no area",
            "remove them (PyVista: mesh.clean())",
            centers[empty],
        )
    again = np.zeros(len(area), bool)
    for number in np.unique(faces.sizes):
        chosen = np.flatnonzero((faces.sizes == number) & ~empty)
        offsets = np.cumsum(faces.sizes) - faces.sizes
        corners = faces.corner[offsets[chosen, None] + np.arange(number)]
        # Start at the smallest corner: back-to-back faces, as of a thin plate, differ.
        turn = (corners.argmin(axis=1)[:, None] + np.arange(number)) % number
        corners = np.take_along_axis(corners, turn, axis=1)
        _, first = np.unique(corners, axis=0, return_index=True)
        repeated = np.ones(len(chosen), bool)
        repeated[first] = False
        again[chosen[repeated]] = True
    if again.any():
        yield Finding(
            name,
            "duplicated cells",
            "error",
            f"{again.sum():,} of {len(area):,} faces are there twice: their area and "
            "their force count twice",
            "remove them",
            centers[again],
        )


def _check_winding(faces: Faces, name: str) -> Iterator[Finding]:
    first, count, direction = faces.sides
    against = (count == 2) & (direction != 0)
    remedy = "none is needed where the package reads it: MeshFolder turns faces outward"
    if against.any():
        yield Finding(
            name,
            "winding",
            "warning",
            f"faces are wound against each other at {against.sum():,} of "
            f"{len(count):,} edges",
            remedy,
            faces.middle(first[against]),
        )
    elif not len(faces.open_edges):
        centers, vectors = faces.areas
        volume = ((centers - centers.mean(axis=0)) * vectors).sum() / 3
        if volume < 0:
            yield Finding(
                name,
                "winding",
                "warning",
                f"all faces are wound inward: the volume is {volume:.4g}",
                remedy,
            )


def _check_normals(faces: Faces, name: str) -> Iterator[Finding]:
    """Compare normals stored in the mesh with those of its faces."""
    own = own_normals(faces.mesh, cells=True)
    if own is None and (at_points := own_normals(faces.mesh, cells=False)) is not None:
        corners = np.asarray(faces.surface.GetPolys().GetConnectivityArray())
        offsets = np.cumsum(faces.sizes) - faces.sizes
        own = np.add.reduceat(at_points[corners], offsets)
    if own is None:
        return
    centers, vectors = area_vectors(oriented_faces(faces.surface))
    area = np.linalg.norm(vectors, axis=1)
    against = (own * vectors).sum(axis=1) < 0
    closed = not len(faces.open_edges)
    _, part = np.unique(faces.parts, return_inverse=True)
    wrong = np.bincount(part, area * against) > np.bincount(part, area) / 2
    # An open surface has no outer side, and normals around a cavity inside another part
    # point inward.
    either_way = _nested(centers, part) if closed else np.ones(len(wrong), bool)
    against ^= (wrong & either_way)[part]
    share = area[against].sum() / (area.sum() or 1.0)
    if share > _TURNED:
        inverted = "all normals point inward" if share > 1 - _TURNED else ""
        yield Finding(
            name,
            "normals",
            "error",
            inverted or f"normals of {share:.1%} of the area point the wrong way",
            "remove the array, so that normals are computed, or turn it; normals point "
            "outward, from the body into the fluid",
            centers[against],
        )


def _nested(centers: Floats, part: Integers) -> npt.NDArray[np.bool_]:
    """Return which parts lie in the bounding box of another one."""
    number = int(part.max()) + 1
    if number > _MOST_PARTS:
        return np.ones(number, bool)
    low, high = np.full((2, number, 3), np.inf) * [[[1.0]], [[-1.0]]]
    np.minimum.at(low, part, centers)
    np.maximum.at(high, part, centers)
    within = (low[:, None] >= low[None]).all(-1) & (high[:, None] <= high[None]).all(-1)
    nested: npt.NDArray[np.bool_] = within.sum(axis=1) > 1
    return nested
