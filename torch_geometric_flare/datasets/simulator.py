"""What a simulator returns for `SimulatedDataset`, and the sample made of it."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch_geometric.data import Data

from torch_geometric_flare._precision import narrow
from torch_geometric_flare.datasets.arrays import Array, describe_gaps, read_npz
from torch_geometric_flare.datasets.stored import MeshData, check_finite
from torch_geometric_flare.fields import Fields, num_channels
from torch_geometric_flare.transforms import Normalizer, feature_key, make_input

Bounds = tuple[tuple[float, ...], tuple[float, ...]]

_OPTIONAL = ("normal", "area", "cells", "edge_index", "grid")
_STANDARD = ("x", "pos", "y", "u", *_OPTIONAL)
REDRAWS = "redraws"
"""Name of the array that counts draws without a solution in a sample's file."""
RESERVED = (
    "x",
    "y",
    "u",
    "pos",
    "batch",
    "ptr",
    "cells",
    "edge_index",
    "grid",
    REDRAWS,
)
"""Names that no field or feature may have."""


class Simulator(Protocol):
    r"""The contract of a simulator: a picklable dataclass that draws samples.

    The fields of the dataclass are its parameters; JSON must be able to hold them. It
    knows NumPy alone and returns raw arrays under their own names and in its own
    units. `SimulatedDataset` makes `x` and `y` of them, and stores all in single
    precision:

    | array | shape | meaning |
    |---|---|---|
    | `pos` | [N, 2] or [N, 3] | coordinates; needed |
    | each of `fields` | [N, C], or [N] if C = 1 | a target; needed |
    | each of `features` | [N, C], or [N] if C = 1 | an input; needed |
    | each of `conditions` | [C] | a quantity of the whole sample; needed |
    | `normal` | [N, D] | outward unit normals |
    | `area` | [N] | area that each point stands for |
    | `cells` | [K, V] | points of each cell, integers |
    | `edge_index` | [2, E] | points that each edge joins, integers |
    | `grid` | [2] | points (H, W) of a structured grid, H · W = N, row by row |

    A simulator may leave out the attribute `conditions`, `Fields` as `features` are:
    it then has none. `SimulatedDataset` makes `u` [1, G] of them.

    All numbers are finite. Arrays of other names are refused. A solver that did not
    find its solution raises `simulation.NotConverged`: `SimulatedDataset` draws that
    sample again.
    """

    @property
    def name(self) -> str:
        """Short name for folders and messages."""

    @property
    def fields(self) -> Fields:
        """The targets, in the order of the columns of `y`; at least one."""

    @property
    def features(self) -> Fields:
        """The inputs beyond the coordinates, in the order of their columns in `x`."""

    @property
    def coordinate_bounds(self) -> Bounds | None:
        """Corners of a box, in the unit of `pos`, that `x` maps to 0 and 1.

        `None` leaves the coordinates in `x` as they are.
        """

    def sample(self, rng: np.random.Generator) -> Mapping[str, Array]:
        """Return the raw arrays of one sample, which depend on `rng` alone."""


def conditions_of(simulator: Simulator) -> Fields:
    """Return the quantities of each sample as a whole; none by default."""
    conditions: Fields = getattr(simulator, "conditions", ())
    return conditions


def sample_rng(
    seed: int, split: str, index: int, attempt: int = 0
) -> np.random.Generator:
    r"""Return the random state of one sample of a `SimulatedDataset`.

    Args:
        seed: Seed of the data set.
        split: Name of the split.
        index: Index of the sample.
        attempt: How many random states of this sample led to no solution before.

    Returns:
        A generator that depends on nothing else, neither on the number of samples nor
        on the order in which, or the process where, they are simulated.
    """
    key: tuple[int, ...] = (zlib.crc32(split.encode()), index)
    if attempt:
        key = (*key, attempt)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def make_arrays(simulator: Simulator, raw: object) -> dict[str, Array]:
    r"""Return the arrays of a sample, checked, with `x`, `y` and `u` made of them.

    `x` is made of the raw numbers, before these are rounded to single precision.

    Args:
        simulator: The simulator that returned them.
        raw: What its `sample` returned.

    Returns:
        The arrays of the sample's file: real numbers in single precision, indices as
        64-bit integers.

    Raises:
        ValueError: If an array is missing, unknown, of another type, shape or length,
            or not finite. The message names it.
    """
    arrays = _checked(simulator, raw)
    data = Data(**{name: torch.from_numpy(array) for name, array in arrays.items()})
    x = make_input(data, simulator.features, _encoder(simulator))
    targets = [arrays.pop(field.name) for field in simulator.fields]
    arrays = {"x": x.numpy(), "y": np.concatenate(targets, axis=1), **arrays}
    numbers = [arrays.pop(condition.name) for condition in conditions_of(simulator)]
    if numbers:
        arrays["u"] = np.concatenate(numbers, axis=1)
    pos = narrow(arrays["pos"])
    arrays = {
        name: array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        for name, array in arrays.items()
    }
    return {**arrays, "pos": pos}


def read_arrays(
    content: bytes, path: Path, fields: Fields, conditions: Fields = ()
) -> Data:
    r"""Return the sample in the content of an `.npz` file that holds `make_arrays`.

    Args:
        content: The bytes of the file.
        path: The file, for the messages.
        fields: The targets.
        conditions: The quantities of the whole sample.

    Raises:
        ValueError: If the file is damaged, or `x`, `pos`, `y` or `u` is missing, of
            another shape or not finite.
    """
    arrays = read_npz(content, path)
    needed = ("x", "pos", "y", "u") if conditions else ("x", "pos", "y")
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise ValueError(
            f"'{path}' lacks {', '.join(missing)}, and holds {sorted(arrays)}."
        )
    length = arrays["pos"].shape[:1]
    expected = {"x": length, "pos": length, "y": (*length, num_channels(fields))}
    if conditions:
        expected["u"] = (1, num_channels(conditions))
    for name, shape in expected.items():
        found = arrays[name].shape
        if len(found) != 2 or found[: len(shape)] != shape:
            raise ValueError(
                f"'{path}': {name} has the shape {found}, expected {shape} and two "
                "dimensions."
            )
    arrays.pop(REDRAWS, None)
    grid = arrays.pop("grid", None)
    data = MeshData()
    for name, array in arrays.items():
        data[name if name in _STANDARD else feature_key(name)] = torch.from_numpy(array)
    if grid is not None:
        data.grid = tuple(grid.tolist())
    check_finite(data, path)
    return data


def _encoder(simulator: Simulator) -> Normalizer | None:
    if simulator.coordinate_bounds is None:
        return None
    lower, upper = torch.tensor(simulator.coordinate_bounds, dtype=torch.float64)
    return Normalizer(lower, upper - lower)


def _checked(simulator: Simulator, raw: object) -> dict[str, Array]:
    """Return the raw arrays in float64, with one row per point or for the sample."""
    if not isinstance(raw, Mapping):
        raise ValueError(f"sample must return arrays by name, got {type(raw).__name__}")
    conditions = {f.name: f.channels for f in conditions_of(simulator)}
    at_points = {f.name: f.channels for f in (*simulator.fields, *simulator.features)}
    quantities = at_points | conditions
    missing = {"pos", *quantities} - set(raw)
    if missing:
        raise ValueError(f"{_listed(missing)} is missing among {_listed(raw)}")
    unknown = set(raw) - {"pos", *quantities, *_OPTIONAL}
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
    _check_shapes(arrays, simulator, at_points)
    for name, channels in conditions.items():
        if arrays[name].shape != (channels,):
            raise ValueError(
                f"{name!r} must be of shape ({channels},), got {arrays[name].shape}"
            )
    for name, channels in quantities.items():
        arrays[name] = arrays[name].reshape(-1, channels)
    return arrays


def _check_shapes(
    arrays: Mapping[str, Array], simulator: Simulator, quantities: Mapping[str, int]
) -> None:
    pos = arrays["pos"]
    if pos.ndim != 2 or pos.shape[1] not in (2, 3) or len(pos) == 0:
        raise ValueError(f"'pos' must be of shape [N, 2] or [N, 3], got {pos.shape}")
    size, dimension = pos.shape
    bounds = simulator.coordinate_bounds
    if bounds is not None and {len(corner) for corner in bounds} != {dimension}:
        raise ValueError(
            f"coordinate_bounds are {bounds}, but 'pos' has {dimension} dimensions"
        )
    shapes = {"normal": (size, dimension), "area": (size,)}
    shapes.update({name: (size, count) for name, count in quantities.items()})
    for name, shape in shapes.items():
        allowed = [shape] if shape != (size, 1) else [shape, (size,)]
        if name in arrays and arrays[name].shape not in allowed:
            raise ValueError(
                f"{name!r} must be of shape {shape}, got {arrays[name].shape}"
            )
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
