"""Convert the output of a simulator to a sample and its file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch_geometric.data import Data

from torch_geometric_flare._finite import describe_gaps
from torch_geometric_flare._precision import narrow
from torch_geometric_flare.datasets.arrays import Array, read_npz
from torch_geometric_flare.datasets.simulator import (
    QUERY,
    REDRAWS,
    Bounds,
    PointSet,
    Simulator,
    conditions_of,
)
from torch_geometric_flare.datasets.stored import MeshData, check_finite
from torch_geometric_flare.fields import Fields, num_channels
from torch_geometric_flare.transforms import Normalizer, feature_key, make_input

_OPTIONAL = ("normal", "area", "cells", "edge_index", "grid")
_STANDARD = ("x", "pos", "y", "u", *_OPTIONAL)


def make_arrays(simulator: Simulator, raw: object) -> dict[str, Array]:
    r"""Validate the arrays of a sample and add `x`, `y` and `u`.

    `x` is computed before the raw numbers are rounded to single precision.

    Args:
        simulator: The simulator.
        raw: Output of its `sample` method.

    Returns:
        The arrays of the sample's file: real numbers in single precision, indices as
        64-bit integers.

    Raises:
        ValueError: If an array is missing, unknown, of another type, shape or length,
            or not finite. The message names it.
    """
    sets, conditions = PointSet.of(simulator), conditions_of(simulator)
    arrays = _checked(sets, conditions, raw)
    made: dict[str, Array] = {}
    for points in sets:
        made |= _input_and_target(points, arrays)
    numbers = [arrays.pop(condition.name) for condition in conditions]
    if numbers:
        made["u"] = np.concatenate(numbers, axis=1)
    arrays = {**made, **arrays}
    exact = {f"{points.prefix}pos" for points in sets}
    return {
        name: narrow(array)
        if name in exact
        else array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        for name, array in arrays.items()
    }


def read_arrays(
    content: bytes,
    path: Path,
    fields: Fields,
    conditions: Fields = (),
    query_fields: Fields = (),
) -> Data:
    r"""Return the sample in the content of an `.npz` file that holds `make_arrays`.

    Args:
        content: The bytes of the file.
        path: The file, for the messages.
        fields: The targets.
        conditions: The conditions of the whole sample.
        query_fields: The targets at query points, if there are any.

    Raises:
        ValueError: If the file is damaged, or `u`, or `x`, `pos` or `y` of one set of
            points, is missing, of another shape or not finite.
    """
    arrays = read_npz(content, path)
    sets = {"": fields, **({QUERY: query_fields} if query_fields else {})}
    missing = [
        prefix + name
        for prefix in sets
        for name in ("x", "pos", "y")
        if prefix + name not in arrays
    ]
    if conditions and "u" not in arrays:
        missing.append("u")
    if missing:
        raise ValueError(
            f"'{path}' lacks {', '.join(missing)}, and holds {sorted(arrays)}."
        )
    for prefix, targets in sets.items():
        length = arrays[f"{prefix}pos"].shape[:1]
        expected = {"x": length, "pos": length, "y": (*length, num_channels(targets))}
        if conditions and not prefix:
            expected["u"] = (1, num_channels(conditions))
        for name, shape in expected.items():
            actual = arrays[prefix + name].shape
            if len(actual) != 2 or actual[: len(shape)] != shape:
                raise ValueError(
                    f"'{path}': {prefix}{name} has the shape {actual}, expected {shape}"
                    " and two dimensions."
                )
    arrays.pop(REDRAWS, None)
    grid = arrays.pop("grid", None)
    data = MeshData()
    for name, array in arrays.items():
        data[_key(name)] = torch.from_numpy(array)
    if grid is not None:
        data.grid = tuple(grid.tolist())
    check_finite(data, path)
    return data


def _key(name: str) -> str:
    """Return the name in a sample of an array in its file."""
    if name in _STANDARD:
        return name
    if name.startswith(QUERY):
        return QUERY + _key(name.removeprefix(QUERY))
    return feature_key(name)


def _input_and_target(points: PointSet, arrays: dict[str, Array]) -> dict[str, Array]:
    """Return `x` and `y` of a set of points, and remove the fields from `arrays`."""
    prefix = points.prefix
    data = Data(pos=torch.from_numpy(arrays[f"{prefix}pos"]))
    for feature in points.features:
        values = torch.from_numpy(arrays[prefix + feature.name])
        data[feature_key(feature.name)] = values
    x = make_input(data, points.features, _encoder(points.coordinate_bounds))
    targets = [arrays.pop(prefix + field.name) for field in points.fields]
    return {f"{prefix}x": x.numpy(), f"{prefix}y": np.concatenate(targets, axis=1)}


def _encoder(bounds: Bounds | None) -> Normalizer | None:
    if bounds is None:
        return None
    lower, upper = torch.tensor(bounds, dtype=torch.float64)
    return Normalizer(lower, upper - lower)


def _checked(
    sets: Sequence[PointSet], conditions: Fields, raw: object
) -> dict[str, Array]:
    """Return the raw arrays in float64, with one row per point or for the sample."""
    if not isinstance(raw, Mapping):
        raise ValueError(f"sample must return arrays by name, got {type(raw).__name__}")
    quantities = {
        name: channels
        for points in sets
        for name, channels in points.quantities.items()
    }
    of_sample = {field.name: field.channels for field in conditions}
    quantities |= of_sample
    needed = {*quantities, *(f"{points.prefix}pos" for points in sets)}
    if needed - set(raw):
        raise ValueError(
            f"{_listed(needed - set(raw))} is missing among {_listed(raw)}"
        )
    unknown = set(raw) - {*needed, *_OPTIONAL}
    if unknown:
        raise ValueError(
            f"{_listed(unknown)} is neither a field nor a feature nor a condition of "
            f"the simulator nor one of {_listed(_OPTIONAL)}; x, y and u are made by "
            "the data set"
        )
    arrays = {}
    for name, array in raw.items():
        integers = name in ("cells", "edge_index", "grid")
        if not isinstance(array, np.ndarray) or array.dtype.kind not in (
            "iu" if integers else "fiu"
        ):
            kind = "an array of integers" if integers else "a numeric array"
            raise ValueError(f"{name!r} must be {kind}, got {_kind(array)}")
        arrays[name] = np.ascontiguousarray(
            array, dtype=np.int64 if integers else np.float64
        )
        if gaps := describe_gaps(np.atleast_1d(arrays[name])):
            raise ValueError(f"{name!r} has {gaps}")
    for points in sets:
        _check_shapes(arrays, points)
    _check_connectivity(arrays)
    for name, channels in of_sample.items():
        if arrays[name].shape != (channels,):
            raise ValueError(
                f"{name!r} must be of shape ({channels},), got {arrays[name].shape}"
            )
    for name, channels in quantities.items():
        arrays[name] = arrays[name].reshape(-1, channels)
    return arrays


def _check_shapes(arrays: Mapping[str, Array], points: PointSet) -> None:
    """Check the arrays of one set of points."""
    name = f"{points.prefix}pos"
    pos = arrays[name]
    if pos.ndim != 2 or pos.shape[1] not in (2, 3) or len(pos) == 0:
        raise ValueError(f"{name!r} must be of shape [N, 2] or [N, 3], got {pos.shape}")
    size, dimension = pos.shape
    bounds = points.coordinate_bounds
    if bounds is not None and {len(corner) for corner in bounds} != {dimension}:
        raise ValueError(
            f"{points.prefix}coordinate_bounds are {bounds}, but {name!r} has "
            f"{dimension} dimensions"
        )
    shapes: dict[str, tuple[int, ...]] = {
        name: (size, count) for name, count in points.quantities.items()
    }
    if not points.prefix:
        shapes = {"normal": (size, dimension), "area": (size,), **shapes}
    for name, shape in shapes.items():
        allowed = [shape] if shape != (size, 1) else [shape, (size,)]
        if name in arrays and arrays[name].shape not in allowed:
            raise ValueError(
                f"{name!r} must be of shape {shape}, got {arrays[name].shape}"
            )


def _check_connectivity(arrays: Mapping[str, Array]) -> None:
    """Check arrays that refer to points by index."""
    size = len(arrays["pos"])
    for name in ("cells", "edge_index"):
        index = arrays.get(name)
        if index is None:
            continue
        if index.ndim != 2 or (name == "edge_index" and len(index) != 2):
            shape_text = "[K, V]" if name == "cells" else "[2, E]"
            raise ValueError(f"{name!r} must be of shape {shape_text}")
        if index.size and not (index.min() >= 0 and index.max() < size):
            raise ValueError(
                f"{name!r} names points from {index.min()} to {index.max()}, but there "
                f"are {size}"
            )
    grid = arrays.get("grid")
    if grid is not None and (
        grid.shape != (2,) or grid.min() < 1 or grid.prod() != size
    ):
        raise ValueError(f"'grid' is {grid.tolist()}, expected (H, W), H * W = {size}")


def _listed(names: object) -> str:
    return ", ".join(repr(name) for name in sorted(names))  # type: ignore[call-overload]


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    return type(value).__name__
