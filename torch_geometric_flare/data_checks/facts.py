"""Facts of each mesh for comparisons with the others."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from torch_geometric_flare._finite import count_gaps
from torch_geometric_flare._provenance import prediction_note
from torch_geometric_flare.data_checks.findings import FieldStatistics, Finding
from torch_geometric_flare.data_checks.surface import Faces, describe_borders
from torch_geometric_flare.mesh_io import is_surface, mesh_weights

Floats = npt.NDArray[np.float64]
Place = tuple[str, str]
"""Location of an array, `"cell"` or `"point"`, and its name."""

# Arrays that VTK and this package add.
_OTHERS = ("vtkOriginalCellIds", "vtkOriginalPointIds", "vtkGhostType", "provenance")
NORMALS = ("normals", "normal")
"""Names of arrays of normals, in lower case."""
# Digits of a deviation that single precision must resolve.
_DIGITS = 1e-3
# A value is a spike beyond this many ranges of the central 98 % of the values.
_SPIKE = 50.0
_FEWEST_VALUES = 1000


@dataclass(frozen=True)
class MeshFacts:
    """Data that the checks of several meshes compare; small for any mesh.

    Attributes:
        name: Name of the mesh.
        path: Its file.
        split: Its split.
        kind: Points, curves, surface or volume.
        flat: Whether all vertices have the same third coordinate.
        low: Lower corner of its bounding box, $[3]$.
        high: Upper corner, $[3]$.
        shape: Descriptor that is nearly equal for meshes of the same shape, $[12]$.
        geometry: Digest of the points, independent of their order.
        values: Digest of each array with the positions of its values.
        arrays: Statistics of each array.
        conditions: Numbers of the whole mesh, by name.
        borders: Output of `describe_borders` for an open surface, otherwise empty.
        border_places: Positions of the open edges, $[K, 3]$.
    """

    name: str
    path: Path
    split: str
    kind: str
    flat: bool
    low: Floats
    high: Floats
    shape: Floats
    geometry: int
    values: dict[Place, int]
    arrays: dict[Place, FieldStatistics]
    conditions: dict[str, Floats]
    borders: str = ""
    border_places: Floats = field(default_factory=lambda: np.empty((0, 3)))

    @property
    def size(self) -> float:
        """Diagonal of the box."""
        return float(np.linalg.norm(self.high - self.low))


def find_facts(mesh: Any, name: str, path: Path, split: str) -> MeshFacts:
    """Return the facts of a mesh.

    Args:
        mesh: A mesh from `mesh_io.read_mesh`.
        name: Its name.
        path: Its file.
        split: Its split.
    """
    points = np.asarray(mesh.points, np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    arrays, values = {}, {}
    centers = np.asarray(mesh.cell_centers().points, np.float64)
    for place, array in mesh_arrays(mesh):
        arrays[place] = FieldStatistics.of(array)
        where = centers if place[0] == "cell" else points
        values[place] = _digest(np.column_stack([where, array]))
    facts = MeshFacts(
        name=name,
        path=path,
        split=split,
        kind=_kind(mesh),
        flat=bool(low[2] == high[2]),
        low=low,
        high=high,
        shape=_shape(mesh, centers, low, high),
        geometry=_digest(points),
        values=values,
        arrays=arrays,
        conditions=_conditions(mesh),
    )
    if facts.kind != "surface":
        return facts
    faces = Faces(mesh)
    if not len(faces.open_edges):
        return facts
    borders = describe_borders(faces)
    return replace(facts, borders=borders, border_places=faces.open_edges)


def mesh_arrays(mesh: Any) -> Iterator[tuple[Place, npt.NDArray[Any]]]:
    """Yield the numeric arrays of a mesh, $[N, C]$ each, by location and name."""
    for location, data in (("cell", mesh.cell_data), ("point", mesh.point_data)):
        for name in sorted(data):
            array = np.asarray(data[name])
            if name in _OTHERS or array.dtype.kind not in "fiu" or not len(array):
                continue
            yield (location, name), array.reshape(len(array), -1)


def check_arrays(mesh: Any, name: str) -> Iterator[Finding]:
    """Check the arrays of one mesh."""
    if note := prediction_note(mesh):
        yield Finding(
            name, "predicted", "error", f"the fields are {note}", "move it elsewhere"
        )
    centers = mesh.cell_centers().points
    for (location, array), values in mesh_arrays(mesh):
        where = np.asarray(centers if location == "cell" else mesh.points)
        finite = np.isfinite(values).all(axis=1)
        what = f"{location} data {array!r}"
        if not finite.all():
            yield Finding(
                name,
                "nan",
                "error",
                f"{what}: {count_gaps(finite)}",
                "remove these cells, or compute the field again",
                where[~finite],
            )
        if values.dtype.kind != "f" or array.lower() in NORMALS or not finite.any():
            continue
        statistics = FieldStatistics.of(values)
        rounding = np.spacing(np.abs(values[finite]).max(axis=0)).astype(np.float64)
        coarse = (statistics.deviation > 0) & (
            rounding > _DIGITS * statistics.deviation
        )
        if coarse.any():
            yield Finding(
                name,
                "precision",
                "warning",
                f"{what}: values up to {np.abs(statistics.high).max():.6g} with a "
                f"deviation of {statistics.deviation[coarse].min():.3g} are stored as "
                f"{values.dtype}",
                "store the difference from a reference value, or in double precision",
            )
        spikes = np.zeros(len(values), bool)
        if len(values) >= _FEWEST_VALUES:
            least, most = np.percentile(values[finite], (1, 99), axis=0)
            reach = _SPIKE * (most - least)
            spikes = (values < least - reach) | (values > most + reach)
            spikes = (spikes & (reach > 0)).any(axis=1) & finite
        if spikes.any():
            yield Finding(
                name,
                "outliers",
                "warning",
                f"{what}: {spikes.sum():,} values from {values[spikes].min():.4g} to "
                f"{values[spikes].max():.4g} lie more than {_SPIKE:g} times the range "
                "of the central 98 % beyond it",
                "look at them: did the solver diverge there?",
                where[spikes],
            )


def check_volumes(mesh: Any, name: str) -> Iterator[Finding]:
    """Check that no cell of a volume mesh is inverted."""
    volumes = np.asarray(mesh.compute_cell_sizes().cell_data["Volume"])
    turned = volumes < 0
    if turned.any():
        yield Finding(
            name,
            "inverted cells",
            "warning" if turned.all() else "error",
            f"{turned.sum():,} of {len(turned):,} cells have a negative volume",
            "order their corners as VTK does, or mend the mesh",
            np.asarray(mesh.cell_centers().points)[turned],
        )


def _kind(mesh: Any) -> str:
    if mesh.n_cells == 0:
        return "points"
    if is_surface(mesh):
        return "surface"
    dimension = max(cell.dimension for cell in _one_of_each_kind(mesh))
    return ("points", "curves", "surface", "volume")[dimension]


def _one_of_each_kind(mesh: Any) -> Iterator[Any]:
    if not hasattr(mesh, "celltypes"):
        yield mesh.get_cell(0)
        return
    _, first = np.unique(mesh.celltypes, return_index=True)
    for index in first:
        yield mesh.get_cell(int(index))


def _conditions(mesh: Any) -> dict[str, Floats]:
    conditions = {}
    for name in sorted(mesh.field_data):
        array = np.asarray(mesh.field_data[name])
        if array.dtype.kind in "fiu" and 0 < array.size <= 16:
            conditions[name] = array.astype(np.float64).ravel()
    return conditions


def _shape(mesh: Any, centers: Floats, low: Floats, high: Floats) -> Floats:
    """Return extents, centroid and second moments, weighted, in units of the size."""
    size = np.linalg.norm(high - low) or 1.0
    weights = mesh_weights(mesh, cells=True)
    if weights is None:
        centers = np.asarray(mesh.points, np.float64)
        share = np.full(len(centers), 1 / len(centers))
    else:
        share = weights.double().numpy()
        share = share / share.sum()
    arm = (centers - low) / size
    mean = share @ arm
    arm = arm - mean
    moments = (arm * share[:, None]).T @ arm
    return np.concatenate([(high - low) / size, mean, moments[np.triu_indices(3)]])


def _digest(rows: Floats) -> int:
    """Return a 64-bit hash that does not depend on the order of the rows."""
    rows = np.ascontiguousarray(rows, np.float64) + 0.0  # merges -0.0 and 0.0
    bits = rows.view(np.uint64)
    mixed = np.zeros(len(bits), np.uint64)
    with np.errstate(over="ignore"):
        for column in bits.T:
            mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
            mixed *= np.uint64(0xBF58476D1CE4E5B9)
            mixed ^= mixed >> np.uint64(32)
        return int(mixed.sum(dtype=np.uint64))
