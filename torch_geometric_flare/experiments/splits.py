"""Which data a run takes, and the samples that come of it."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform, Compose

from torch_geometric_flare.fields import Field, Fields, num_channels
from torch_geometric_flare.surrogates import QueryPoints
from torch_geometric_flare.transforms import (
    Normalizer,
    get_feature,
    quadrature_weights,
)

# Enough for a curve, and quick: five hundredths of the default cars.
_NUM_VAL = 5
_CONDITIONS = ("film", "broadcast", "none")


@dataclass(frozen=True)
class Selection:
    """Which data to train and to test on.

    Args:
        data: `"simulated"` or `"official"`.
        root: Folder of the data sets.
        num_points: Points of a sample, such as `4000`, `"10k"` or `"1m"`; by default
            the benchmark's own number.
        num_train: Samples to train on; by default the benchmark's own number of
            simulated ones, or all official ones.
        num_test: Samples to test on, likewise.
        num_val: Samples to validate on. Simulated ones are further samples; official
            ones are the last of the training split, which loses them. `None` stands for
            5 simulated ones, or none of the official.
        fields: Names of the targets, separated by commas; by default the benchmark's
            own.
        features: What the network sees of each point beside the benchmark's own inputs,
            separated by commas: quantities that the samples hold, such as normal.
        weighted: Let points count by what they stand for: the area or the volume that
            `transforms.quadrature_weights` gives them.
        conditions: Let simulated conditions of the whole sample differ, such as the
            viscosity of pipes, and hand them to the network by `film` as its `u`, by
            `broadcast` as features of each point, or, with `none`, not at all. By
            default they are the same in all samples.

    Raises:
        ValueError: If `data` is neither, a number is below one (`num_val`: negative),
            or `fields` or `features` has an empty name.
    """

    data: Literal["simulated", "official"] = "simulated"
    root: str = "data"
    num_points: str | None = field(default=None, metadata={"accepts": int | str | None})
    num_train: int | None = None
    num_test: int | None = None
    num_val: int = field(default=0, metadata={"accepts": int | None})
    fields: tuple[str, ...] | None = field(
        default=None, metadata={"accepts": str | tuple[str, ...] | None}
    )
    features: tuple[str, ...] = field(
        default=(), metadata={"accepts": str | tuple[str, ...]}
    )
    weighted: bool = False
    conditions: Literal["film", "broadcast", "none"] | None = None

    def __post_init__(self) -> None:
        if self.conditions not in (*_CONDITIONS, None):
            raise ValueError(
                f"conditions is {self.conditions!r}, expected one of {_CONDITIONS}"
            )
        if self.data not in ("simulated", "official"):
            raise ValueError(
                f"data is {self.data!r}, expected 'simulated' or 'official'"
            )
        self._convert()
        for name in ("num_train", "num_test"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.num_val < 0:
            raise ValueError(f"num_val must not be negative, got {self.num_val}")
        for name, example in (("fields", "pressure"), ("features", "normal")):
            if not all(getattr(self, name) or ()):
                raise ValueError(
                    f"{name} is {getattr(self, name)}, expected names such as {example}"
                )

    def _convert(self) -> None:
        """Take what a command line or a YAML file gives."""
        number: Any = self.num_val
        if number is None:
            number = _NUM_VAL if self.data == "simulated" else 0
        values: dict[str, Any] = {
            "num_points": None if self.num_points is None else str(self.num_points),
            "num_val": number,
        }
        for name in ("fields", "features"):
            names: Any = getattr(self, name)
            if isinstance(names, str):
                names = names.split(",") if names or name == "fields" else ()
            values[name] = None if names is None else tuple(names)
        for name, value in values.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Samples to train, to validate and to test on, and what normalizes them.

    Args:
        train: Training split; samples with `x`, `pos` and `y`.
        test: Test split.
        fields: What the columns of `y` are.
        features: What the columns of `x` after the coordinates are.
        target_normalizer: Of `y`, from published statistics or the training split.
        coordinate_normalizer: That with which `x` was made of `pos`; `None` if the
            coordinates in `x` are raw.
        input_normalizer: Of all columns of `x`; `None` if the model takes `x` as it is.
        train_transform: Applied to each training sample in each epoch, before points
            are drawn from it.
        val: Validation split, if there is one.
        location: Where on a mesh the samples lie, `"cell"` or `"point"`.
        weighted: Whether points count by what they stand for, see `Surrogate`; samples
            without `weight` have points that were spread evenly.
        conditions: What the columns of `u` of the samples are.
        condition_normalizer: Of all columns of `u`.
        query: What normalizes the query points, where samples have any.
    """

    train: Sequence[Data]
    test: Sequence[Data]
    fields: Fields
    target_normalizer: Normalizer
    features: Fields = ()
    coordinate_normalizer: Normalizer | None = None
    input_normalizer: Normalizer | None = None
    train_transform: Callable[[Data], Data] | None = None
    val: Sequence[Data] | None = None
    location: str | None = None
    weighted: bool = False
    conditions: Fields = ()
    condition_normalizer: Normalizer | None = None
    query: QueryPoints | None = None

    def transform(self, transform: Callable[[Data], Data]) -> "Splits":
        """Return splits whose samples have passed a transform, held in memory.

        Args:
            transform: Applied once to a copy of each sample.
        """
        train, val, test = (
            None if split is None else [transform(copy.copy(data)) for data in split]
            for split in (self.train, self.val, self.test)
        )
        assert train is not None and test is not None
        return replace(self, train=train, val=val, test=test)

    def with_features(self, names: Sequence[str]) -> "Splits":
        """Return splits whose input has further features.

        They are normalized by their mean and deviation over the training split.

        Args:
            names: Quantities that the samples hold per point, such as `"normal"`.

        Raises:
            ValueError: If the samples lack one, or training makes their input anew.
        """
        if self.train_transform is not None:
            raise ValueError(
                f"features is {tuple(names)}, but {self.train_transform} makes the "
                "input of this benchmark anew for each step: leave features out"
            )
        sample, added = self.train[0], []
        for name in names:
            value = get_feature(sample, name)
            if not isinstance(value, Tensor) or len(value) != sample.num_nodes:
                raise ValueError(
                    f"features has {name!r}, but the samples hold {sample.keys()}"
                )
            added.append(Field(name, value[0].numel()))

        def add(data: Data) -> Data:
            columns = [get_feature(data, name).view(len(data.x), -1) for name in names]
            data.x = torch.cat([data.x, *columns], dim=1)
            return data

        splits, width = self.transform(add), sample.x.size(1)
        given = self.input_normalizer or Normalizer.identity(width)
        of_added = Normalizer.gaussian(data.x[:, width:] for data in splits.train)
        return replace(
            splits,
            features=(*self.features, *added),
            input_normalizer=Normalizer.cat([given, of_added]),
        )

    def with_conditions(self, how: str) -> "Splits":
        """Return splits that hand the conditions to the network in some way.

        Args:
            how: `"film"` as `u`, as they are here; `"broadcast"` as features that are
                the same at all points of a sample; or `"none"`, not at all.

        Raises:
            ValueError: If the samples have no conditions.
        """
        if not self.conditions:
            raise ValueError(f"conditions is {how!r}, but the samples have none")
        if how == "film":
            return self
        splits = replace(self, conditions=(), condition_normalizer=None)
        if how == "none":
            return splits.transform(_without_conditions)
        width = self.train[0].x.size(1)
        given = self.input_normalizer or Normalizer.identity(width)
        of_added = self.condition_normalizer or Normalizer.identity(
            num_channels(self.conditions)
        )
        again = None
        if self.train_transform is not None:  # may change `u`, and make `x` anew
            again = Compose([_as_u, self.train_transform, _Broadcast(width)])
        return replace(
            splits.transform(_Broadcast(width)),
            train_transform=again,
            features=(*self.features, *self.conditions),
            input_normalizer=Normalizer.cat([given, of_added]),
        )

    def with_weights(self) -> "Splits":
        """Return splits whose points count by the area or volume they stand for."""

        def add(data: Data) -> Data:
            weight = quadrature_weights(
                data.pos,
                data.get("area"),
                data.get("grid"),
                data.get("cells"),
                surface="normal" in data,
            )
            # Ones on average: the ratios alone have a meaning.
            data.weight = weight / weight.mean()
            return data

        return replace(self.transform(add), weighted=True)


class _Broadcast(BaseTransform):
    """Makes conditions the columns of `x` from some width on, at all points.

    The conditions are then no longer `u`, which networks ask for, but `conditions`.

    Args:
        width: Columns of `x` that stay.
    """

    def __init__(self, width: int) -> None:
        self.width = width

    def forward(self, data: Data) -> Data:
        rows = data.u.expand(len(data.x), -1)
        data.x = torch.cat([data.x[:, : self.width], rows], dim=1)
        data.conditions = data.u
        return _without_conditions(data)


def _as_u(data: Data) -> Data:
    data.u = data.conditions
    return data


def _without_conditions(data: Data) -> Data:
    del data.u
    return data
