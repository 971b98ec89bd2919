"""Random printable parts made of voxels without overhanging regions."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from torch_geometric_flare.simulation.hexahedron import CORNERS

Voxels = npt.NDArray[np.bool_]
Index = npt.NDArray[np.intp]

BUILD_SPACE = (30, 30, 60)
"""Number of voxels of 1 mm along x, y and z into which every part fits."""


@dataclass(frozen=True, eq=False)
class PrintedShape:
    """A part made of voxels whose lowest layer stands on the plate.

    Args:
        voxels: Mask of solid voxels, [X, Y, Z]. In every layer, each face-connected
            region must have a voxel on top of a solid voxel.

    Raises:
        ValueError: If `voxels` is not a boolean array of three dimensions, has no solid
            voxel, or has a region without support.
    """

    voxels: Voxels

    def __post_init__(self) -> None:
        voxels = self.voxels
        if voxels.dtype != np.bool_ or voxels.ndim != 3:
            raise ValueError(
                "`voxels` must be a boolean array of shape [X, Y, Z], got "
                f"{voxels.dtype} of shape {list(voxels.shape)}"
            )
        if not voxels.any():
            raise ValueError("`voxels` has no solid voxel")
        hanging = np.argwhere(voxels & ~supported(voxels))
        if len(hanging):
            raise ValueError(
                f"voxel {tuple(hanging[0].tolist())} of `voxels` belongs to a region "
                "without support: remove it, for instance with `supported`"
            )

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "PrintedShape":
        """Draw a random part inside `BUILD_SPACE`.

        It is the union of two to five boxes, cylinders and plates minus up to three
        holes, each a cylinder or a box through the part. Regions without support are
        removed. All solids are in a box of random size in the middle of the plate.

        Args:
            rng: Random generator.
        """
        while True:
            sizes = np.exp(rng.uniform(np.log((6, 6, 16)), np.log(BUILD_SPACE)))
            low = 0.5 * (np.array(BUILD_SPACE) - sizes) * (1.0, 1.0, 0.0)
            voxels = np.zeros(BUILD_SPACE, dtype=np.bool_)
            for number in range(rng.integers(2, 6)):
                voxels |= _solid(rng, low, sizes, standing=number == 0)
            for _ in range(rng.integers(0, 4)):
                voxels &= ~_hole(rng, low, sizes)
            voxels = supported(voxels)
            if voxels.any():
                return cls(voxels)

    @property
    def num_nodes(self) -> int:
        """Number of corners of solid voxels."""
        return int(self._corners().sum())

    def mesh(self) -> tuple[Index, Index]:
        """Return the mesh of the solid voxels.

        Returns:
            Integer coordinates of the nodes, layer by layer from the plate, [N, 3]; and
            the nodes of each voxel in VTK's order, layer by layer, [E, 8].
        """
        corners = self._corners().transpose(2, 1, 0)
        number = np.cumsum(corners).reshape(corners.shape) - 1
        nodes = np.argwhere(corners)[:, ::-1]
        cells = np.argwhere(self.voxels.transpose(2, 1, 0))[:, ::-1]
        x, y, z = np.moveaxis(cells[:, None] + CORNERS, 2, 0)
        return nodes, number[z, y, x]

    def _corners(self) -> Voxels:
        corners = np.zeros(np.add(self.voxels.shape, 1), dtype=np.bool_)
        for x, y, z in CORNERS:
            nx, ny, nz = self.voxels.shape
            corners[x : x + nx, y : y + ny, z : z + nz] |= self.voxels
        return corners


def supported(voxels: Voxels) -> Voxels:
    """Return the voxels that can be printed from the plate upward.

    The lowest layer is kept. In other layers, a face-connected region is kept if one of
    its voxels is on top of a kept voxel.

    Args:
        voxels: Mask of solid voxels, [X, Y, Z].
    """
    kept = np.zeros_like(voxels)
    below = np.ones(voxels.shape[:2], dtype=np.bool_)
    for level in range(voxels.shape[2]):
        regions, _ = ndimage.label(voxels[:, :, level])
        standing = np.unique(regions[below & voxels[:, :, level]])
        below = np.isin(regions, standing) & voxels[:, :, level]
        kept[:, :, level] = below
    return kept


def _solid(
    rng: np.random.Generator,
    low: npt.NDArray[np.float64],
    sizes: npt.NDArray[np.float64],
    standing: bool,
) -> Voxels:
    """Draw a box, a cylinder or a plate, with full height if `standing`."""
    kind = rng.choice(["box", "cylinder", "wall", "floor"])
    extent = sizes * rng.uniform(0.3, 1.0, 3)
    if kind == "wall":
        extent[rng.integers(2)] = rng.uniform(1.5, 3.5)
    if kind == "floor" and not standing:
        extent[:2] = sizes[:2] * rng.uniform(0.5, 1.0, 2)
        extent[2] = rng.uniform(1.5, 3.5)
    start = low + (sizes - extent) * rng.uniform(0.0, 1.0, 3)
    if kind != "floor" or standing:
        start[2] = 0.0
    if standing:
        extent[2] = sizes[2]
    if kind == "cylinder":
        return _cylinder(start, extent, axis=2)
    return _box(start, extent)


def _hole(
    rng: np.random.Generator,
    low: npt.NDArray[np.float64],
    sizes: npt.NDArray[np.float64],
) -> Voxels:
    """Draw a box or a cylinder that passes through the part along a random axis."""
    axis = int(rng.integers(3))
    extent = sizes * rng.uniform(0.2, 0.5, 3)
    start = low + (sizes - extent) * rng.uniform(0.1, 0.9, 3)
    start[axis], extent[axis] = low[axis], sizes[axis]
    if rng.random() < 0.5:
        return _box(start, extent)
    return _cylinder(start, extent, axis)


def _centers(
    start: npt.NDArray[np.float64], extent: npt.NDArray[np.float64]
) -> list[npt.NDArray[np.float64]]:
    """Return the voxels' centers along each axis, scaled to [-1, 1] in a box."""
    return [
        (np.arange(n) + 0.5 - a) / (0.5 * b) - 1.0
        for n, a, b in zip(BUILD_SPACE, start, extent, strict=True)
    ]


def _box(start: npt.NDArray[np.float64], extent: npt.NDArray[np.float64]) -> Voxels:
    x, y, z = (np.abs(c) <= 1.0 for c in _centers(start, extent))
    inside: Voxels = x[:, None, None] & y[:, None] & z
    return inside


def _cylinder(
    start: npt.NDArray[np.float64], extent: npt.NDArray[np.float64], axis: int
) -> Voxels:
    """Return the voxels in an elliptic cylinder along an axis."""
    squares = [c * c for c in _centers(start, extent)]
    squares[axis] = np.where(squares[axis] <= 1.0, 0.0, 2.0)
    x, y, z = squares
    inside: Voxels = x[:, None, None] + y[:, None] + z <= 1.0
    return inside
