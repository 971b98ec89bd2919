"""Centers, normals and areas of a surface mesh as functions of its vertices."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class SurfaceGeometry:
    r"""A surface mesh of polygons, differentiable in the positions of its vertices.

    Each polygon is split into triangles around the mean of its corners, as in
    `metrics.mesh_forces`; its area vector is the sum of theirs.

    Args:
        points: Vertices, $[V, 3]$.
        corner: Vertex at each corner of each polygon, in order around it, $[K]$.
        face: Polygon of each corner, sorted, $[K]$.
        cells: Whether values lie at the polygons; otherwise at the vertices.
    """

    points: Tensor
    corner: Tensor
    face: Tensor
    cells: bool

    @classmethod
    def of_mesh(cls, mesh: Any, points: Tensor, *, cells: bool) -> "SurfaceGeometry":
        """Return the geometry of a mesh whose faces point outward.

        Args:
            mesh: A `pyvista.PolyData` from `mesh_io.oriented_faces`.
            points: Its vertices, $[V, 3]$.
            cells: Whether values lie at the polygons; otherwise at the vertices.
        """
        polygons = mesh.GetPolys()
        offsets, corners = (
            torch.from_numpy(np.asarray(array).astype(np.int64)).to(points.device)
            for array in (polygons.GetOffsetsArray(), polygons.GetConnectivityArray())
        )
        sizes = offsets.diff()
        numbers = torch.arange(len(sizes), device=points.device)
        return cls(points, corners, numbers.repeat_interleave(sizes), cells)

    @cached_property
    def sizes(self) -> Tensor:
        """Number of corners of each polygon, $[F]$."""
        return torch.bincount(self.face)

    @cached_property
    def following(self) -> Tensor:
        """Index of the next corner of the same polygon, $[K]$."""
        ends = self.sizes.cumsum(0)
        following = torch.arange(1, len(self.corner) + 1, device=self.corner.device)
        following[ends - 1] = ends - self.sizes
        return following

    @cached_property
    def centers(self) -> Tensor:
        """Mean of the corners of each polygon, $[F, 3]$."""
        corners = self.points[self.corner]
        return self._over_faces(corners).div(self.sizes.unsqueeze(1))

    @cached_property
    def fans(self) -> Tensor:
        """Area vector of each triangle between a side and the center, $[K, 3]$."""
        arm = self.points[self.corner] - self.centers[self.face]
        vectors: Tensor = torch.linalg.cross(arm, arm[self.following]) / 2
        return vectors

    @cached_property
    def vectors(self) -> Tensor:
        """Area vector of each polygon, $[F, 3]$."""
        return self._over_faces(self.fans)

    @cached_property
    def pos(self) -> Tensor:
        """Positions of the values, $[N, 3]$."""
        return self.centers if self.cells else self.points

    @cached_property
    def area(self) -> Tensor:
        """Area per value, $[N]$; vertices get equal shares of their faces."""
        area = _length(self.vectors)
        if self.cells:
            return area
        share = (area / self.sizes)[self.face]
        return area.new_zeros(len(self.points)).index_add(0, self.corner, share)

    @cached_property
    def normal(self) -> Tensor:
        """Outward unit normals, $[N, 3]$; at vertices the mean over their faces."""
        unit = self.vectors / _length(self.vectors).clamp(min=_TINY)[:, None]
        if self.cells:
            return unit
        total = torch.zeros_like(self.points).index_add(0, self.corner, unit[self.face])
        return total / _length(total).clamp(min=_TINY)[:, None]

    def on_triangles(self, values: Tensor) -> Tensor:
        """Return values $[N]$ at the triangles of `fans`, $[K]$.

        A triangle gets the value of its polygon, or the mean over its corners.
        """
        if self.cells:
            return values[self.face]
        corner = values[self.corner]
        mean = self._over_faces(corner) / self.sizes
        return (mean[self.face] + corner + corner[self.following]) / 3

    def _over_faces(self, values: Tensor) -> Tensor:
        """Sum values of corners over each polygon."""
        total = values.new_zeros(len(self.sizes), *values.shape[1:])
        return total.index_add(0, self.face, values)


_TINY = 1e-300


def _length(vectors: Tensor) -> Tensor:
    """Return the lengths of vectors, with a gradient of zero where they are zero."""
    squares = vectors.square().sum(-1)
    zero = squares == 0
    return squares.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)
