"""Inputs of a prediction on a mesh, except the coordinates."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torch_geometric_flare._finite import describe_gaps
from torch_geometric_flare._precision import narrow
from torch_geometric_flare.fields import Field, Fields
from torch_geometric_flare.mesh_io.geometry import mesh_areas, mesh_normals


def find_features(
    mesh: Any,
    features: Fields,
    constants: Mapping[str, Sequence[float]] | None = None,
    *,
    cells: bool = False,
    scale: float = 1.0,
) -> dict[str, Tensor]:
    r"""Return the named inputs at the vertices or the cells of a mesh.

    Sources, in this order: `constants`; the array of the mesh with its source or name;
    field data of that name (one number per channel, the same everywhere); and for
    `normal` and `area`, `mesh_normals` and `mesh_areas`.

    Args:
        mesh: A mesh from `read_mesh`.
        features: Names, channels and units of the inputs, as in `Surrogate.features`.
        constants: For an input that is the same everywhere, one number per channel.
        cells: Use the cells instead of the vertices.
        scale: Length of one unit of the mesh in units of the training data, for areas.

    Returns:
        The inputs by name, $[N, C]$ each, in float32; in float64 if float32 would merge
        or move them, as for time stamps.

    Raises:
        ValueError: If an input is missing, has the wrong number of channels, or is not
            finite, or a constant is not an input.
    """
    constants = constants or {}
    check_constants(constants, features)
    return {
        feature.name: _find(mesh, feature, constants, cells, scale)
        for feature in features
    }


def find_conditions(
    mesh: Any,
    conditions: Fields,
    constants: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, Tensor]:
    r"""Return the named conditions of a mesh: numbers of the whole mesh.

    Each comes from `constants`, or from the field data of the mesh with its source or
    name. Field data of that name with the suffix `_unit`, if any, must equal its unit.

    Args:
        mesh: A mesh from `read_mesh`.
        conditions: Names, channels and units, as in `Surrogate.conditions`.
        constants: One number per channel of a condition.

    Returns:
        The conditions by name, $[1, C]$ each, in float32 or float64 as in
        `find_features`.

    Raises:
        ValueError: If a condition is missing, has the wrong number of channels, is not
            finite, or has another unit in the field data `<name>_unit`, or a constant
            is not a condition.
    """
    constants = constants or {}
    check_constants(constants, conditions)
    values_by_name = {}
    for condition in conditions:
        name = _array_name(condition, mesh.field_data)
        if condition.name in constants:
            values = _repeated(list(constants[condition.name]), 1)
        elif name in mesh.field_data:
            values = _same_everywhere(mesh.field_data, name, condition, 1)
        else:
            raise ValueError(
                f"the mesh lacks the condition {condition} of the model: add field "
                f"data {condition.array!r} of {condition.channels} numbers, or the "
                f"column {condition.array!r} to a file cases.csv beside the mesh, or "
                f"set {condition.name}=VALUE"
            )
        values_by_name[condition.name] = _check_values(values, condition)
    return values_by_name


def check_constants(constants: Mapping[str, Any], known: Fields) -> None:
    """Raise `ValueError` if a constant is not a known input or condition."""
    unknown = sorted(set(constants) - {field.name for field in known})
    if unknown:
        names = ", ".join(map(str, known)) or "no inputs besides the coordinates"
        raise ValueError(f"{unknown[0]!r} is set, but the model takes {names}")


def is_computed(feature: Field) -> bool:
    """Return whether a missing input can be computed from the geometry."""
    return (feature.name, feature.channels) in (("normal", 3), ("area", 1))


def _find(
    mesh: Any,
    feature: Field,
    constants: Mapping[str, Sequence[float]],
    cells: bool,
    scale: float,
) -> Tensor:
    number = mesh.n_cells if cells else mesh.n_points
    data, kind = (mesh.cell_data, "cell") if cells else (mesh.point_data, "point")
    name = _array_name(feature, data, mesh.field_data)
    if feature.name in constants:
        values = _repeated(list(constants[feature.name]), number)
    elif name in data:
        array = np.asarray(data[name])
        if array.dtype.kind not in "fiu":
            raise ValueError(f"the {kind} data {name!r} are not numbers")
        values = torch.tensor(narrow(array.reshape(number, -1)))
    elif name in mesh.field_data:
        values = _same_everywhere(mesh.field_data, name, feature, number)
    elif is_computed(feature) and name == "normal":
        values = mesh_normals(mesh, cells=cells)
    elif is_computed(feature):  # the area
        values = mesh_areas(mesh, cells=cells) * scale**2
    else:
        called = f"called {feature.array!r}" if feature.source else "of that name"
        raise ValueError(
            f"the mesh lacks the input {feature} of the model: add {kind} data "
            f"{called} with {feature.channels} channels, or set {feature.name}=VALUE"
        )
    return _check_values(values, feature)


def _check_values(values: Tensor, feature: Field) -> Tensor:
    if values.size(1) != feature.channels:
        raise ValueError(
            f"the input {feature} has {values.size(1)} channels, but the model takes "
            f"{feature.channels}"
        )
    if gaps := describe_gaps(values.numpy()):
        raise ValueError(f"the input {feature} has {gaps}")
    return values


def _array_name(feature: Field, *places: Any) -> str:
    """Return the source of a feature, or its name if only that exists."""
    there = any(feature.array in place for place in places)
    return feature.array if there else feature.name


def _same_everywhere(field_data: Any, name: str, feature: Field, number: int) -> Tensor:
    """Return field data repeated at every point or cell."""
    stored = np.asarray(field_data[name])
    if stored.dtype.kind not in "fiu" or stored.size != feature.channels:
        raise ValueError(
            f"the field data {name!r} must be {feature.channels} numbers, got "
            f"{stored.size} of type {stored.dtype}"
        )
    note = f"{name}_unit"
    unit = str(field_data[note][0]) if note in field_data else feature.unit
    if unit != feature.unit:
        raise ValueError(
            f"the field data {name!r} is in {unit!r}, but {feature.name} is in "
            f"{feature.unit or 'no unit'!r}: convert it, and its {note!r}"
        )
    return _repeated(stored, number)


def _repeated(values: Any, number: int) -> Tensor:
    return torch.tensor(narrow(np.asarray(values).reshape(1, -1))).expand(number, -1)
