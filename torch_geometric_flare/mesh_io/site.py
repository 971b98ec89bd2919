"""Query points around a body: a slice, a box, or the points of a file."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvista as pv

from torch_geometric_flare._arguments import expand_path, finite_number
from torch_geometric_flare._files import MESH_SUFFIXES, read_table
from torch_geometric_flare.mesh_io.read import FURTHER_SUFFIXES, read_mesh

_AXES = "xyz"
_FORMS = (
    "slice:AXIS=VALUE[:SPACING], box:X0,X1,Y0,Y1,Z0,Z1[:SPACING], points.csv, or a mesh"
)
# Default number of intervals along the longest side of a slice and of a box.
_OF_SLICE, _OF_BOX = 200, 64
_MOST_POINTS = 100_000_000


@dataclass(frozen=True)
class QuerySite(ABC):
    """A set of query points, parsed from text by `QuerySite.parse`.

    Args:
        text: The text, for messages.
    """

    text: str

    @staticmethod
    def parse(text: str) -> "QuerySite":
        """Parse one of these forms, with lengths in the unit of the mesh.

        - `slice:y=0`, a plane across the training box of the query points;
          `slice:y=0:0.01` with a point every 0.01, by default 201 points along the
          longer side;
        - `box:0,4,-1,1,0,2`, a grid over a box, x from 0 to 4 and so on;
          `box:0,4,-1,1,0,2:0.1` with a point every 0.1, by default 65 along the longest
          side. In 2D, `box:0,4,-1,1`;
        - `points.csv`, a table with the columns x, y, z, or with a header, in which
          further columns are inputs of the model;
        - a file of `read_mesh`, for the points of that mesh.

        Raises:
            ValueError: If the text has none of these forms; the message names it.
        """
        kind, colon, rest = text.partition(":")
        if colon and kind in ("slice", "box"):
            numbers, colon, spacing = rest.partition(":")
            step = _number(text, spacing) if colon else None
            if step is not None and step <= 0:
                raise ValueError(f"{text!r}: the spacing {step:g} is not above zero")
            if kind == "slice":
                return _Slice.read(text, numbers, step)
            return _Box.read(text, numbers, step)
        suffixes = (".csv", *MESH_SUFFIXES, *FURTHER_SUFFIXES)
        if Path(text).suffix.lower() in suffixes:
            return _File(text)
        raise ValueError(f"{text!r} is no place: give {_FORMS}")

    @abstractmethod
    def dataset(self, lower: Sequence[float], upper: Sequence[float]) -> Any:
        """Return the points as a PyVista dataset, in the unit of the mesh.

        Args:
            lower: Lower corner of the training box, 2 or 3 numbers.
            upper: Upper corner.

        Raises:
            ValueError: If the dimension differs, it lies outside the box, or has too
                many points.
            FileNotFoundError: If the file does not exist.
        """

    @property
    @abstractmethod
    def name(self) -> str:
        """Name in the files of predicted fields."""


@dataclass(frozen=True)
class _Slice(QuerySite):
    axis: int
    value: float
    spacing: float | None

    @staticmethod
    def read(text: str, where: str, spacing: float | None) -> "_Slice":
        axis, equals, value = where.partition("=")
        if not equals or axis not in tuple(_AXES):
            raise ValueError(f"{text!r} names no axis: give slice:x=VALUE, y or z")
        return _Slice(text, _AXES.index(axis), _number(text, value), spacing)

    @property
    def name(self) -> str:
        return f"slice_{_AXES[self.axis]}_{self.value:g}"

    def dataset(self, lower: Sequence[float], upper: Sequence[float]) -> Any:
        if len(lower) != 3:
            raise ValueError(
                f"{self.text!r} is a plane in space, but the model predicts in the "
                "plane: give box:X0,X1,Y0,Y1"
            )
        low, high = list(map(float, lower)), list(map(float, upper))
        axis = self.axis
        if not low[axis] <= self.value <= high[axis]:
            raise ValueError(
                f"{self.text!r} lies outside of the box of the training, "
                f"{_AXES[axis]} from {low[axis]:.4g} to {high[axis]:.4g}: take a value "
                "between these, in the unit of the mesh"
            )
        low[axis] = high[axis] = self.value
        return _grid(self.text, low, high, self.spacing, _OF_SLICE)


@dataclass(frozen=True)
class _Box(QuerySite):
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    spacing: float | None

    @staticmethod
    def read(text: str, ends: str, spacing: float | None) -> "_Box":
        numbers = tuple(_number(text, end) for end in ends.split(","))
        if len(numbers) not in (4, 6):
            raise ValueError(
                f"{text!r} has {len(numbers)} ends: give box:X0,X1,Y0,Y1,Z0,Z1, or in "
                "the plane box:X0,X1,Y0,Y1"
            )
        lower, upper = numbers[::2], numbers[1::2]
        for axis, low, high in zip(_AXES, lower, upper, strict=False):
            if not low < high:
                raise ValueError(
                    f"{text!r}: {axis} goes from {low:g} to {high:g}: give the lower "
                    "end first"
                )
        return _Box(text, lower, upper, spacing)

    @property
    def name(self) -> str:
        return "box"

    def dataset(self, lower: Sequence[float], upper: Sequence[float]) -> Any:
        if len(lower) != len(self.lower):
            raise ValueError(
                f"{self.text!r} has {len(self.lower)} axes, but the model predicts "
                f"with {len(lower)} coordinates: give box:"
                + ",".join(f"{axis}0,{axis}1" for axis in "XYZ"[: len(lower)])
            )
        zeros = [0.0] * (3 - len(self.lower))
        low, high = [*self.lower, *zeros], [*self.upper, *zeros]
        return _grid(self.text, low, high, self.spacing, _OF_BOX)


@dataclass(frozen=True)
class _File(QuerySite):
    @property
    def name(self) -> str:
        path = Path(self.text)
        return f"{path.stem}_{path.suffix[1:].lower()}"

    def dataset(self, lower: Sequence[float], upper: Sequence[float]) -> Any:
        path = expand_path(self.text)
        if path.suffix.lower() != ".csv":
            return read_mesh(path)
        if not path.is_file():
            raise FileNotFoundError(f"{self.text!r} is not a file")
        return _read_points(path, len(lower))


def _number(text: str, part: str) -> float:
    value = finite_number(part)
    if value is None:
        raise ValueError(f"{text!r}: {part!r} is not a finite number; give {_FORMS}")
    return value


def _grid(
    text: str,
    low: Sequence[float],
    high: Sequence[float],
    spacing: float | None,
    intervals: int,
) -> Any:
    """Return a grid that fills the box, with a spacing of about `spacing`."""
    sizes = np.subtract(high, low)
    step = sizes.max() / intervals if spacing is None else spacing
    steps = np.where(sizes > 0, np.maximum(np.ceil(sizes / step - 1e-9), 1), 0)
    number = math.prod(float(count) + 1 for count in steps)
    if number > _MOST_POINTS:
        raise ValueError(
            f"{text!r} has {number:.1e} points, more than {_MOST_POINTS:,}: give a "
            "larger spacing"
        )
    return pv.ImageData(
        dimensions=[int(count) + 1 for count in steps],
        spacing=sizes / np.maximum(steps, 1) + (sizes == 0),
        origin=low,
    )


def _read_points(path: Path, dimension: int) -> Any:
    """Return the points of a table; further columns become point data."""
    axes = list(_AXES[:dimension])
    rows = [row for row in read_table(path) if row]
    names = axes
    if rows and finite_number(rows[0][0]) is None:
        names = [name.strip() for name in rows.pop(0)]
        missing = [axis for axis in axes if axis not in names]
        if missing:
            raise ValueError(
                f"{str(path)!r} has the columns {', '.join(names)}: name those of the "
                f"coordinates {', '.join(axes)}"
            )
    if not rows:
        raise ValueError(f"{str(path)!r} holds no points: give a row of numbers each")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(names) or None in map(finite_number, row):
            raise ValueError(
                f"{str(path)!r}: row {number} of the points, {','.join(row)!r}, must "
                f"be {len(names)} finite numbers: {', '.join(names)}"
            )
    table = np.array(rows, dtype=np.float64)
    points = np.zeros((len(table), 3))
    points[:, :dimension] = table[:, [names.index(axis) for axis in axes]]
    cloud = pv.PolyData(points)
    for column, name in enumerate(names):
        if name not in axes:
            cloud.point_data[name] = table[:, column]
    return cloud
