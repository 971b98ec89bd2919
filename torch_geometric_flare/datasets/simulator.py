"""The interface of simulators and the description of their points."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from torch_geometric_flare.datasets.arrays import Array
from torch_geometric_flare.fields import Fields

Bounds = tuple[tuple[float, ...], tuple[float, ...]]

REDRAWS = "redraws"
"""Name of the array with the number of failed draws in a sample's file."""
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
"""Prefix of all names that belong to query points."""


class Simulator(Protocol):
    r"""Interface of a simulator: a picklable dataclass that draws samples.

    The fields of the dataclass are its parameters and must be JSON-serializable. It
    uses only NumPy and returns raw arrays by name, in its units. `SimulatedDataset`
    builds `x` and `y` from them and stores all arrays in single precision:

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

    The attribute `conditions`, `Fields` like `features`, is optional.
    `SimulatedDataset` builds `u` [1, G] from the conditions.


    A simulator may also have `query_fields`, and with them `query_features` and
    `query_coordinate_bounds`. It then also returns query points, such as points in the
    air around a body, for models such as `nn.FLAREQuery`: `query_pos` [M, D] and each
    query field and feature with the prefix `query_`, [M, C].

    All numbers must be finite. Arrays with other names are refused. A solver that does
    not converge raises `simulation.NotConverged`: `SimulatedDataset` draws that sample
    again.
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
        """Corners of a box, in the unit of `pos`, that `x` maps to [0, 1].

        With `None` the coordinates in `x` are not scaled.
        """

    def sample(self, rng: np.random.Generator) -> Mapping[str, Array]:
        """Return the raw arrays of one sample, which depend only on `rng`."""


def conditions_of(simulator: Simulator) -> Fields:
    """Return the conditions of the whole sample; none by default."""
    conditions: Fields = getattr(simulator, "conditions", ())
    return conditions


@dataclass(frozen=True)
class PointSet:
    """Description of one set of points of a simulator.

    Args:
        prefix: Prefix of the names of its arrays: empty, or `QUERY`.
        fields: The targets.
        features: The inputs beyond the coordinates.
        coordinate_bounds: Box that `x` maps to [0, 1].
    """

    prefix: str
    fields: Fields
    features: Fields
    coordinate_bounds: Bounds | None

    @classmethod
    def of(cls, simulator: Simulator) -> "list[PointSet]":
        """Return the description of the points, and of the query points if any."""
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
        """Number of channels of the fields and features by array name."""
        both = (*self.fields, *self.features)
        return {self.prefix + field.name: field.channels for field in both}


def sample_rng(
    seed: int, split: str, index: int, attempt: int = 0
) -> np.random.Generator:
    r"""Return the random state of one sample of a `SimulatedDataset`.

    Args:
        seed: Seed of the data set.
        split: Name of the split.
        index: Index of the sample.
        attempt: Number of earlier draws of this sample that did not converge.

    Returns:
        A generator that depends only on these arguments, not on the number of samples
        or on the order or process in which they are simulated.
    """
    key: tuple[int, ...] = (zlib.crc32(split.encode()), index)
    if attempt:
        key = (*key, attempt)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
