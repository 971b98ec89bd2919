"""Conditions of meshes: from a table beside them, or from their field data."""

import csv
import math
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from torch_geometric_flare.datasets.arrays import Array
from torch_geometric_flare.fields import Field, Fields, channel_slices, num_channels

TABLE = "cases.csv"
"""Name of the table: a line for each mesh, whose file name is in the column `mesh`."""

_MESH = "mesh"

Case = list[float | None]
"""A number for each channel of the conditions; `None` where there is none."""


def read_cases(
    path: Path, conditions: Fields, meshes: Collection[str]
) -> dict[str, Case]:
    """Return what a table says about meshes.

    A column is called as the source or the name of its condition, with the unit behind
    it in brackets or without, as `speed (m/s)`. Channel $k$ of several has the column
    `name[k]`. Columns of other names and lines of other meshes are passed over.

    Args:
        path: The table.
        conditions: Names, channels and units.
        meshes: File names of the meshes.

    Returns:
        The numbers of each mesh that the table lists, by its name.

    Raises:
        ValueError: If the table has no column `mesh`, two columns or two lines of one
            name, a column in another unit than its condition, or a value that is not a
            finite number. The message names it.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *lines = list(csv.reader(file)) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"'{path}' is not a table in UTF-8: {error}") from error
    header = [name.strip() for name in header]
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
    cases: dict[str, Case] = {}
    for number, line in enumerate(lines, start=2):
        cells = dict(zip(header, map(str.strip, line), strict=False))
        mesh = cells.get(_MESH)
        if mesh not in meshes or mesh is None:
            continue
        if mesh in cases:
            raise ValueError(f"'{path}', line {number}: {mesh!r} is listed twice")
        where = f"'{path}', line {number}, mesh {mesh!r}"
        cases[mesh] = [
            None if name is None else _number(cells.get(name, ""), name, where)
            for name in columns
        ]
    return cases


def field_data_case(mesh: Any, conditions: Fields) -> Array:
    """Return the conditions in the field data of a mesh, $[1, G]$; NaN for none.

    Args:
        mesh: A mesh of `mesh_io.read_mesh`.
        conditions: Names, channels and units.

    Raises:
        ValueError: As `mesh_io.find_conditions`, but for one that is missing.
    """
    from torch_geometric_flare import mesh_io

    values = np.full((1, num_channels(conditions)), np.nan)
    held = set(mesh.field_data.keys())
    present = tuple(c for c in conditions if {c.array, c.name} & held)
    columns = channel_slices(conditions)
    for name, numbers in mesh_io.find_conditions(mesh, present).items():
        values[:, columns[name]] = numbers.numpy()
    return values


def join_case(
    case: Sequence[float | None] | None,
    of_mesh: Array,
    conditions: Fields,
    mesh: Path,
) -> Array:
    """Return the conditions of a mesh from both places, $[1, G]$.

    Args:
        case: The numbers of the table; `None` if it does not list the mesh.
        of_mesh: Those of the field data.
        conditions: Names, channels and units.
        mesh: The mesh, for messages.

    Raises:
        ValueError: If a condition is in neither place, or different in both.
    """
    table = np.array([case or [None] * of_mesh.size], dtype=np.float64)
    for condition, columns in channel_slices(conditions).items():
        at = next(field for field in conditions if field.name == condition)
        first, second = table[:, columns], of_mesh[:, columns]
        if np.isnan(first).any() and np.isnan(second).any():
            unit = f" in {at.unit}" if at.unit else ""
            raise ValueError(
                f"'{mesh}' lacks the condition {at}: add the column {at.array!r}{unit} "
                f"and a line for {mesh.name!r} to '{mesh.with_name(TABLE)}', or field "
                f"data {at.array!r} of {at.channels} numbers to the mesh"
            )
        both = not (np.isnan(first).any() or np.isnan(second).any())
        if both and not np.allclose(first, second, rtol=1e-6, atol=0):
            raise ValueError(
                f"'{mesh}' has the condition {at} twice: {first[0].tolist()} in "
                f"{TABLE}, but {second[0].tolist()} in its field data: remove one"
            )
    return np.where(np.isnan(table), of_mesh, table)


def _columns_of(
    condition: Field, header: Sequence[str], path: Path
) -> list[str | None]:
    """Return the column of each channel of a condition; `None` where there is none."""
    marks = (
        [""]
        if condition.channels == 1
        else map("[{}]".format, range(condition.channels))
    )
    found = [_column_of(condition, mark, header, path) for mark in marks]
    if None in found and any(found):
        raise ValueError(
            f"'{path}' has the columns {header}, but not all {condition.channels} of "
            f"{condition}, {condition.array}[0] and so on"
        )
    return found


def _column_of(
    condition: Field, mark: str, header: Sequence[str], path: Path
) -> str | None:
    names = {condition.array + mark, condition.name + mark}
    found = [
        name for name in header if _without_unit(name)[0] in names or name in names
    ]
    if len(found) > 1:
        raise ValueError(f"'{path}' has the columns {found} for {condition}: keep one")
    if not found:
        return None
    (column,) = found
    unit = _without_unit(column)[1]
    if column not in names and unit != condition.unit:
        raise ValueError(
            f"'{path}' has the column {column!r} in {unit!r}, but the condition "
            f"{condition.name} is in {condition.unit or 'no unit'!r}: convert it, or "
            f"state Field({condition.name!r}, unit={unit!r})"
        )
    return column


def _without_unit(column: str) -> tuple[str, str | None]:
    """Return the name of a column and the unit in brackets behind it."""
    parts = re.fullmatch(r"(.*?)\s*[(\[]([^()\[\]]*)[)\]]", column)
    return (parts[1], parts[2].strip()) if parts else (column, None)


def _number(text: str, column: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: {column!r} is {text!r}, expected a finite number")
    return value
