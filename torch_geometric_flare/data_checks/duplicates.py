"""Find exact and near duplicates of meshes."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from torch_geometric_flare.data_checks.facts import MeshFacts
from torch_geometric_flare.data_checks.findings import Finding

# Near duplicates: the descriptors differ by less than the first number, the surfaces by
# less than the second, as shares of their size.
_ALIKE, _NEAR = 5e-3, 1e-3
_MOST_PAIRS, _MOST_POINTS = 100, 2000
_REMEDY = "keep one of them, or put both into one split"


def check_duplicates(
    meshes: Sequence[MeshFacts], read: Callable[[MeshFacts], Any]
) -> Iterator[Finding]:
    """Find duplicate meshes.

    Args:
        meshes: Facts of all meshes.
        read: Function that reads a mesh again.
    """
    groups = defaultdict(list)
    for mesh in meshes:
        groups[mesh.geometry].append(mesh)
    for group in groups.values():
        # If most meshes are equal, they are a fixed grid.
        if len(group) > 1 and (len(group) <= len(meshes) / 2 or len(meshes) < 4):
            yield from _compare(group)
    same = defaultdict(list)
    for mesh in meshes:
        same[_identity(mesh)].append(mesh)
    for group in same.values():
        if len(group) > 1:
            crossing = len({mesh.split for mesh in group}) > 1
            first, *others = group
            for mesh in others:
                yield Finding(
                    mesh.name,
                    "duplicates",
                    "error" if crossing else "warning",
                    f"({mesh.split}) the same mesh, arrays and conditions as "
                    f"{first.name} ({first.split})",
                    _REMEDY,
                )
    yield from _near_duplicates(meshes, read)


def _identity(mesh: MeshFacts) -> tuple[Any, ...]:
    return (mesh.geometry, tuple(mesh.values.items()), _conditions(mesh))


def _conditions(mesh: MeshFacts) -> tuple[Any, ...]:
    return tuple((name, *row.tolist()) for name, row in mesh.conditions.items())


def _compare(group: Sequence[MeshFacts]) -> Iterator[Finding]:
    """Compare meshes that have the same points but other differences."""
    first = group[0]
    for mesh in group[1:]:
        crossing = mesh.split != first.split
        if not crossing or _identity(mesh) == _identity(first):
            continue
        other = _conditions(mesh) != _conditions(first)
        yield Finding(
            mesh.name,
            "duplicates",
            "warning",
            f"({mesh.split}) the same points as {first.name} ({first.split}), with "
            f"other {'conditions' if other else 'arrays'}",
            "is the test to be on new shapes? Then keep a shape in one split",
        )


def _near_duplicates(
    meshes: Sequence[MeshFacts], read: Callable[[MeshFacts], Any]
) -> Iterator[Finding]:
    """Find meshes of two splits whose surfaces are nearly the same."""
    if len(meshes) < 2:
        return
    shapes = np.array([mesh.shape for mesh in meshes])
    pairs = [
        (float(np.abs(shapes[i] - shapes[j]).max()), i, j)
        for i, j in cKDTree(shapes).query_pairs(_ALIKE, p=np.inf)
        if meshes[i].split != meshes[j].split
        and meshes[i].geometry != meshes[j].geometry
        and meshes[i].kind == meshes[j].kind
    ]
    for _, i, j in sorted(pairs)[:_MOST_PAIRS]:
        one, other = meshes[i], meshes[j]
        distance = surface_distance(read(one), read(other))
        if distance < _NEAR * one.size:
            conditions = _conditions(one) != _conditions(other)
            yield Finding(
                other.name,
                "duplicates",
                "warning",
                f"({other.split}) nearly the shape of {one.name} ({one.split}): 95 % "
                f"of either lie within {distance:.3g} of the other, of a size of "
                f"{one.size:.4g}{', with other conditions' if conditions else ''}",
                _REMEDY,
            )
    if len(pairs) > _MOST_PAIRS:
        yield Finding(
            "",
            "duplicates",
            "warning",
            f"{len(pairs):,} pairs of meshes of two splits have nearly the same extents"
            f" and moments; the {_MOST_PAIRS} nearest were compared",
            "split by groups of meshes that belong together",
        )


def surface_distance(one: Any, other: Any) -> float:
    """Return the distance within which 95 % of each mesh lie from the other.

    Args:
        one: A mesh.
        other: A mesh. For surfaces and volumes, distances are to the surface, otherwise
            to the nearest point.
    """
    distances = []
    for mesh, target in ((one, other), (other, one)):
        points = np.asarray(mesh.points, np.float64)
        chosen = np.linspace(0, len(points) - 1, _MOST_POINTS).astype(int)
        distances.append(_distances(points[np.unique(chosen)], target))
    return float(max(np.percentile(values, 95) for values in distances))


def _distances(points: npt.NDArray[np.float64], mesh: Any) -> npt.NDArray[np.float64]:
    if mesh.n_cells == 0:
        return np.asarray(cKDTree(mesh.points).query(points)[0])
    # Cells of a volume, or faces.
    _, nearest = mesh.find_closest_cell(points, return_closest_point=True)
    distance: npt.NDArray[np.float64] = np.linalg.norm(nearest - points, axis=1)
    return distance
