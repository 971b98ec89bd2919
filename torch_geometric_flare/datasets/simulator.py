"""What a simulator is, and what it says of its points."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from torch_geometric_flare.datasets.arrays import Array
from torch_geometric_flare.fields import Fields

Bounds = tuple[tuple[float, ...], tuple[float, ...]]

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
QUERY = "query_"
"""What starts the names of all that belongs to query points."""


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


    A simulator may also have `query_fields`, and with them `query_features` and
    `query_coordinate_bounds`. It then returns points beside these, such as those of the
    air around a body, for models such as `nn.FLAREQuery`: `query_pos` [M, D] and each
    query field and feature with `query_` before its name, [M, C].

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


@dataclass(frozen=True)
class PointSet:
    """What a simulator says of one set of its points.

    Args:
        prefix: What starts the names of its arrays: nothing, or `QUERY`.
        fields: The targets.
        features: The inputs beyond the coordinates.
        coordinate_bounds: Box that `x` maps to 0 and 1.
    """

    prefix: str
    fields: Fields
    features: Fields
    coordinate_bounds: Bounds | None

    @classmethod
    def of(cls, simulator: Simulator) -> "list[PointSet]":
        """Return the points of a simulator, and the query points if it has any."""
        query: Any = simulator
        sets = [
            cls("", simulator.fields, simulator.features, simulator.coordinate_bounds)
        ]
        if getattr(simulator, "query_fields", ()):
            features = getattr(simulator, "query_features", ())
            bounds = getattr(simulator, "query_coordinate_bounds", None)
            sets.append(cls(QUERY, query.query_fields, features, bounds))
        return sets

    @property
    def quantities(self) -> dict[str, int]:
        """Channels of the fields and features by the names of their arrays."""
        known = (*self.fields, *self.features)
        return {self.prefix + field.name: field.channels for field in known}


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
