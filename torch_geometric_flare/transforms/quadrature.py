"""Quadrature weights: the length, area or volume of each point."""

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_geometric_flare.transforms.knn_edges import search_tree

# Edges along the three axes of a hexahedron, in the order of VTK's corners.
_AXES = (
    ((0, 1), (3, 2), (4, 5), (7, 6)),
    ((0, 3), (1, 2), (4, 7), (5, 6)),
    ((0, 4), (1, 5), (2, 6), (3, 7)),
)


def quadrature_weights(
    pos: Tensor,
    area: Tensor | None = None,
    grid: Sequence[int] | None = None,
    cells: Tensor | None = None,
    surface: bool = False,
) -> Tensor:
    r"""Return weights for sums over points that approximate integrals.

    They are computed from the first of these that is available:

    1. `area` itself; 2. `grid`: each corner gets a quarter of each quadrilateral cell
    (on a regular grid, this is the trapezoidal rule: half an area at the boundary, a
    quarter at its corners); 3. `cells` that are triangles or hexahedra: each corner
    gets an equal share of each cell; the volume of a hexahedron is computed from its
    mean edges along each axis (exact for a parallelepiped); 4. `pos`: $h^d$, where $h$
    is the mean distance of the $D$ nearest neighbors and $d$ the dimension of the
    sampled domain. Because every point of a regular grid has $D$ neighbors at the grid
    spacing, even at a corner, weights do not change at boundaries. If spacings differ
    along axes, pass areas.

    Only ratios of the weights of a sample are meaningful.

    Args:
        pos: Coordinates of one sample.
        area: Area of each point.
        grid: Rows and columns $(H, W)$ of a structured grid; a single row or column is
            ignored.
        cells: Corners of each cell.
        surface: Whether the points lie on a surface, so that $d = D - 1$.

    Shapes:
        - `pos`: $[N, D]$
        - `area`: $[N]$ or $[N, 1]$
        - `cells`: $[E, 3]$ or $[E, 8]$; others are ignored

    Returns:
        $[N]$, in the dtype of `pos`.

    Raises:
        ValueError: If `area` has another shape, is negative or not finite, or `cells`
            refers to points that do not exist.
        ImportError: If only `pos` is available and scipy is not installed.
    """
    points = pos.detach().double()
    if area is not None:
        return _checked(area, pos.size(0)).to(pos)
    if cells is not None and cells.numel():
        first, last = int(cells.min()), int(cells.max())
        if first < 0 or last >= pos.size(0):
            raise ValueError(
                f"cells refers to points from {first} to {last}, but there are "
                f"{pos.size(0)}"
            )
    if grid is not None and min(grid) > 1 and pos.size(1) > 1:
        weights = _of_grid(points, grid)
    elif cells is not None and cells.size(1) == 3 and pos.size(1) > 1:
        weights = _of_triangles(points, cells)
    elif cells is not None and cells.size(1) == 8 and pos.size(1) == 3:
        weights = _of_hexahedra(points, cells)
    else:
        weights = _of_points(points, pos.size(1) - surface)
    return weights.to(pos)


def _checked(area: Tensor, size: int) -> Tensor:
    if area.shape not in ((size,), (size, 1)):
        raise ValueError(
            f"area has shape {tuple(area.shape)}, expected ({size},): one value per "
            "point"
        )
    if not bool((area.isfinite() & (area >= 0)).all()):
        raise ValueError("area must be finite and nonnegative")
    return area.detach().flatten()


def _of_grid(pos: Tensor, grid: Sequence[int]) -> Tensor:
    numbers = torch.arange(pos.size(0), device=pos.device).view(*grid)
    corners = (numbers[:-1, :-1], numbers[1:, :-1], numbers[1:, 1:], numbers[:-1, 1:])
    a, b, c, d = (corner.flatten() for corner in corners)
    area = _parallelogram(pos[c] - pos[a], pos[d] - pos[b]) / 2
    return _share(area, torch.stack([a, b, c, d], dim=1), pos.size(0))


def _of_triangles(pos: Tensor, cells: Tensor) -> Tensor:
    a, b, c = pos[cells].unbind(1)
    return _share(_parallelogram(b - a, c - a) / 2, cells, pos.size(0))


def _of_hexahedra(pos: Tensor, cells: Tensor) -> Tensor:
    corners = pos[cells]
    axes = [
        torch.stack([corners[:, b] - corners[:, a] for a, b in axis]).mean(0)
        for axis in _AXES
    ]
    volume = torch.stack(axes, dim=1).det().abs()
    return _share(volume, cells, pos.size(0))


def _of_points(pos: Tensor, dimensions: int) -> Tensor:
    size, neighbors = pos.shape
    if size <= neighbors:
        return torch.ones_like(pos[:, 0])
    distances, _ = search_tree(pos).query(pos.cpu().numpy(), neighbors + 1)
    spacing = torch.from_numpy(distances).to(pos)[:, 1:].mean(1)
    # Relative to the largest, so that powers of small lengths do not underflow.
    largest = spacing.max()
    if largest == 0:
        return torch.ones_like(spacing)
    return (spacing / largest) ** dimensions


def _parallelogram(a: Tensor, b: Tensor) -> Tensor:
    """Return the area of the parallelogram of two vectors of any dimension."""
    lengths = a.square().sum(1) * b.square().sum(1)
    return (lengths - (a * b).sum(1).square()).clamp(min=0).sqrt()


def _share(measure: Tensor, cells: Tensor, size: int) -> Tensor:
    """Distribute the measure of each cell equally to its corners."""
    corners = cells.size(1)
    parts = (measure / corners).repeat_interleave(corners)
    return measure.new_zeros(size).index_add(0, cells.flatten(), parts)
