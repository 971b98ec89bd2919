"""Read the conditions of meshes from a table in their folder."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from torch_geometric_flare._arguments import finite_number
from torch_geometric_flare._files import read_table
from torch_geometric_flare.fields import Field, Fields, channel_slices
from torch_geometric_flare.mesh_io.features import is_computed

CASES_TABLE = "cases.csv"
"""Name of the table: one line per mesh, with its file name in the column `mesh`."""

_MESH = "mesh"


def read_cases(
    path: Path, conditions: Fields, meshes: Collection[str]
) -> dict[str, list[float | None]]:
    """Read the conditions of meshes from a table.

    A column has the source or the name of its condition, optionally followed by the
    unit in parentheses, as `speed (m/s)`. Channel $k$ of several has the column
    `name[k]`. Other columns and lines of other meshes are ignored.

    Args:
        path: The table.
        conditions: Names, channels and units.
        meshes: File names of the meshes.

    Returns:
        For each listed mesh, by name: one number per channel; `None` if there is no
            column.

    Raises:
        ValueError: If the table has no column `mesh`, has duplicate columns or lines,
            a line with more values than columns, a column whose unit differs from that
            of its condition, or a value that is not a finite number. The message names
            it.
    """
    header, *lines = read_table(path) or [[]]
    header = [name.strip() for name in header]
    if header.count(_MESH) > 1:
        raise ValueError(f"'{path}' has two columns called {_MESH!r}: keep one")
    if _MESH not in header:
        raise ValueError(
            f"'{path}' has the columns {header}, but none called {_MESH!r}, with the "
            "file names of the meshes; columns are separated by commas"
        )
    columns = [
        column
        for condition in conditions
        for column in _columns_of(condition, header, path)
    ]
    cases: dict[str, list[float | None]] = {}
    for number, line in enumerate(lines, start=2):
        cells = dict(zip(header, map(str.strip, line), strict=False))
        mesh = cells.get(_MESH)
        if mesh not in meshes or mesh is None:
            continue
        if mesh in cases:
            raise ValueError(f"'{path}', line {number}: {mesh!r} is listed twice")
        where = f"'{path}', line {number}, mesh {mesh!r}"
        if any(cell.strip() for cell in line[len(header) :]):
            raise ValueError(
                f"{where} has {len(line)} values, but there are {len(header)} columns: "
                "write decimals with a point"
            )
        cases[mesh] = [
            None if name is None else _number(cells.get(name, ""), name, where)
            for name in columns
        ]
    return cases


def add_case(
    mesh: Any,
    path: Path,
    wanted: Fields,
    constants: Collection[str] = (),
) -> None:
    """Add values from `cases.csv` in the folder of a mesh to its field data.

    Only values that the mesh lacks are read, so a mesh with all of them needs no table.

    Args:
        mesh: A mesh from `read_mesh`, which is changed in place.
        path: Its file.
        wanted: Conditions and features of a model. `normal` and `area` are computed,
            see `find_features`, and never read from the table.
        constants: Names of those with constant values, which are not read.

    Raises:
        ValueError: As `read_cases`.
    """
    names = {*mesh.field_data, *mesh.point_data, *mesh.cell_data, *constants}
    missing = tuple(
        field
        for field in wanted
        if not {field.array, field.name} & names and not is_computed(field)
    )
    table = path.with_name(CASES_TABLE)
    if not missing or not table.is_file():
        return
    case = read_cases(table, missing, [path.name]).get(path.name, [])
    for name, columns in channel_slices(missing).items():
        values = case[columns]
        if values and None not in values:
            mesh.field_data[name] = values


def _columns_of(
    condition: Field, header: Sequence[str], path: Path
) -> list[str | None]:
    """Return the column of each channel of a condition; `None` if missing."""
    marks = (
        [""]
        if condition.channels == 1
        else map("[{}]".format, range(condition.channels))
    )
    columns = [_column_of(condition, mark, header, path) for mark in marks]
    if None in columns and any(columns):
        raise ValueError(
            f"'{path}' has the columns {header}, but not all {condition.channels} of "
            f"{condition}, {condition.array}[0] and so on"
        )
    return columns


def _column_of(
    condition: Field, mark: str, header: Sequence[str], path: Path
) -> str | None:
    names = {condition.array + mark, condition.name + mark}
    matching = [
        name for name in header if _without_unit(name)[0] in names or name in names
    ]
    if len(matching) > 1:
        raise ValueError(
            f"'{path}' has the columns {matching} for {condition}: keep one"
        )
    if not matching:
        return None
    (column,) = matching
    unit = _without_unit(column)[1]
    if column not in names and unit != condition.unit:
        raise ValueError(
            f"'{path}' has the column {column!r} in {unit!r}, but the condition "
            f"{condition.name} is in {condition.unit or 'no unit'!r}: convert it, or "
            f"state Field({condition.name!r}, unit={unit!r})"
        )
    return column


def _without_unit(column: str) -> tuple[str, str | None]:
    """Return the name of a column and the unit in parentheses after it."""
    parts = re.fullmatch(r"(.*?)\s*[(\[]([^()\[\]]*)[)\]]", column)
    return (parts[1], parts[2].strip()) if parts else (column, None)


def _number(text: str, column: str, where: str) -> float:
    value = finite_number(text)
    if value is None:
        raise ValueError(f"{where}: {column!r} is {text!r}, expected a finite number")
    return value
