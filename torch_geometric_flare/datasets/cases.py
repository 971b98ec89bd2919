"""Read the conditions of a mesh from a table and from its field data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from torch_geometric_flare.datasets.arrays import Array
from torch_geometric_flare.fields import Fields, channel_slices, num_channels

Case = list[float | None]
"""One number per channel of the conditions; `None` if missing."""


def field_data_case(mesh: Any, conditions: Fields) -> Array:
    """Return the conditions in the field data of a mesh, $[1, G]$; NaN if missing.

    Args:
        mesh: A mesh of `mesh_io.read_mesh`.
        conditions: Names, channels and units.

    Raises:
        ValueError: As `mesh_io.find_conditions`, except for a missing one.
    """
    from torch_geometric_flare import mesh_io

    values = np.full((1, num_channels(conditions)), np.nan)
    names = set(mesh.field_data.keys())
    present = tuple(c for c in conditions if {c.array, c.name} & names)
    columns = channel_slices(conditions)
    for name, numbers in mesh_io.find_conditions(mesh, present).items():
        values[:, columns[name]] = numbers.numpy()
    return values


def join_case(
    case: Sequence[float | None] | None,
    of_mesh: Array,
    conditions: Fields,
    mesh: Path,
    table: Path,
) -> Array:
    """Combine the conditions of a mesh from table and field data, $[1, G]$.

    Args:
        case: Values from the table; `None` if it does not list the mesh.
        of_mesh: Values from the field data.
        conditions: Names, channels and units.
        mesh: File of the mesh, for messages.
        table: File of the table, for messages.

    Raises:
        ValueError: If a condition is in neither source, or differs between them.
    """
    listed = np.array([case or [None] * of_mesh.size], dtype=np.float64)
    columns_of = channel_slices(conditions).values()
    for at, columns in zip(conditions, columns_of, strict=True):
        first, second = listed[:, columns], of_mesh[:, columns]
        if np.isnan(first).any() and np.isnan(second).any():
            unit = f" in {at.unit}" if at.unit else ""
            raise ValueError(
                f"'{mesh}' lacks the condition {at}: add the column {at.array!r}{unit} "
                f"and a line for {mesh.name!r} to '{table}', or field "
                f"data {at.array!r} of {at.channels} numbers to the mesh"
            )
        both = not (np.isnan(first).any() or np.isnan(second).any())
        if both and not np.allclose(first, second, rtol=1e-6, atol=0):
            raise ValueError(
                f"'{mesh}' has the condition {at} twice: {first[0].tolist()} in "
                f"{table.name}, but {second[0].tolist()} in its field data: remove one"
            )
    return np.where(np.isnan(listed), of_mesh, listed)
