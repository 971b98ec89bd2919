"""Compare forces from the fields of a mesh with given forces."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from torch_geometric_flare._files import read_table
from torch_geometric_flare.data_checks.findings import Finding
from torch_geometric_flare.mesh_io import is_surface, mesh_areas, visible_part
from torch_geometric_flare.metrics import mesh_forces

_AXES = {"drag": 0, "lift": 2}


@dataclass(frozen=True)
class GivenForces:
    """Given coefficients of the meshes and their reference values.

    Args:
        pressure: Name of the pressure array.
        speed: Free-stream speed in m/s.
        reference_area: Reference area in m².
        density: Density in kg/m³ if the pressure is in Pa; `None` if it is kinematic.
        shear: Name of the array of the fluid's stress on the surface; with the prefix
            `-` the negative of the array, as for OpenFOAM's `wallShearStress`.
        tolerance: Accepted difference, relative to the larger of drag and lift.
        table: Coefficients of each mesh by its file name, such as `{"car.vtp": {"drag":
            0.3}}`; those of a missing mesh are taken from its field data `drag` and
            `lift`.
    """

    pressure: str
    speed: float
    reference_area: float
    density: float | None = None
    shear: str = ""
    tolerance: float = 0.02
    table: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("speed", "reference_area", "tolerance"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


def read_forces(path: Path) -> dict[str, dict[str, float]]:
    """Return drag and lift of each mesh of a table.

    Args:
        path: A file of comma-separated values with the columns `mesh`, `drag` and
            `lift`, or some of the latter.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a column is missing or a value is not a number.
    """
    if not path.is_file():
        raise FileNotFoundError(f"forces='{path}' is not a file")
    header, *lines = read_table(path) or [[]]
    rows = [dict(zip(header, line, strict=False)) for line in lines if line]
    names = [name for name in _AXES if rows and name in rows[0]]
    if not names or "mesh" not in rows[0]:
        raise ValueError(
            f"'{path}' must have the columns mesh, drag and lift, found "
            f"{list(rows[0]) if rows else 'no rows'}"
        )
    try:
        return {
            Path(row["mesh"]).name: {name: float(row.get(name, "")) for name in names}
            for row in rows
        }
    except ValueError as error:
        raise ValueError(f"'{path}' holds what is not a number: {error}") from error


def check_forces(mesh: Any, name: str, given: GivenForces) -> Iterator[Finding]:
    """Compare the forces of a mesh with the given ones.

    Args:
        mesh: A surface mesh.
        name: Its file name.
        given: The given coefficients.
    """
    expected = given.table.get(Path(name).name) or {
        axis: float(np.asarray(mesh.field_data[axis]).ravel()[0])
        for axis in _AXES
        if axis in mesh.field_data
    }
    if not expected or not is_surface(mesh):
        return
    if given.pressure not in mesh.array_names:
        return  # reported as "missing array" if other meshes have it
    computed = mesh_forces(
        mesh,
        given.pressure,
        speed=given.speed,
        reference_area=given.reference_area,
        density=given.density,
    )
    if given.shear:
        friction = _friction(mesh, given)
        computed = {axis: computed[axis] + friction[k] for axis, k in _AXES.items()}
    allowed = given.tolerance * max(map(abs, expected.values()))
    for axis, value in expected.items():
        if abs(computed[axis] - value) > allowed:
            ratio = f", {value / computed[axis]:.4g} of it" if computed[axis] else ""
            yield Finding(
                name,
                "forces",
                "error",
                f"the {axis} coefficient of its fields is {computed[axis]:.4g}, that "
                f"given {value:.4g}{ratio}",
                "check speed, area and density, the reference of the pressure, the "
                "direction of normals, and whether friction belongs to it (shear)",
            )


def _friction(mesh: Any, given: GivenForces) -> list[float]:
    name, sign = given.shear.removeprefix("-"), -1 if given.shear[0] == "-" else 1
    mesh = visible_part(mesh)
    cells = name in mesh.cell_data
    data = mesh.cell_data if cells else mesh.point_data
    if name not in data:
        raise ValueError(f"the mesh has no array {name!r}, but {mesh.array_names}")
    area = mesh_areas(mesh, cells=cells).double().numpy()
    force = sign * (np.asarray(data[name], np.float64).reshape(-1, 3) * area).sum(0)
    pressure = 0.5 * (given.density or 1.0) * given.speed**2
    return [float(value) for value in force / (pressure * given.reference_area)]
