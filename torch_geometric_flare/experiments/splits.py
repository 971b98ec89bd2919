"""The selection of data for a run, and the resulting samples."""

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

# Enough for a curve, and quick: 5 % of the default number of cars.
_NUM_VAL = 5
_CONDITIONS = ("film", "broadcast", "none")


@dataclass(frozen=True)
class Selection:
    """Training, validation and test data.

    Args:
        data: `"simulated"` or `"official"`.
        root: Root folder of the data sets.
        num_points: Number of points per sample, such as `4000`, `"10k"` or `"1m"`; by
            default that of the benchmark.
        num_train: Number of training samples; by default that of the benchmark for
            simulated data, or all official samples.
        num_test: Number of test samples, likewise.
        num_val: Number of validation samples. Simulated ones are additional samples;
            official ones are taken from the end of the training split. `None` means 5
            simulated samples, or no official ones.
        fields: Names of the targets, separated by commas; by default those of the
            benchmark.
        features: Additional input features of each point, separated by commas:
            attributes of the samples, such as normal.
        weighted: Weight the points by the area or volume from
            `transforms.quadrature_weights`.
        conditions: Vary conditions of simulated samples, such as the viscosity of
            pipes, and pass them to the network: `film` as its `u`, `broadcast` as
            features of each point, `none` not at all. By default they are equal in all
            samples.

    Raises:
        ValueError: If `data` or `conditions` is invalid, a number is less than one
            (`num_val`: negative), or `fields` or `features` has an empty name.
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
        """Convert values from a command line or a YAML file."""
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
    """Training, validation and test samples, with their normalizers.

    Args:
        train: Training split; samples with `x`, `pos` and `y`.
        test: Test split.
        fields: Fields in the columns of `y`.
        features: Features in the columns of `x` after the coordinates.
        target_normalizer: Normalizer of `y`, from published statistics or the training
            split.
        coordinate_normalizer: Normalizer with which `x` was computed from `pos`; `None`
            if the coordinates in `x` are raw.
        input_normalizer: Normalizer of all columns of `x`; `None` if the model has `x`
            unchanged as input.
        train_transform: Applied to each training sample in each epoch, before points
            are sampled from it.
        val: Validation split, if there is one.
        location: Location of the values on a mesh, `"cell"` or `"point"`.
        weighted: Whether points are weighted by area or volume, see `Surrogate`;
            samples without `weight` have uniformly distributed points.
        conditions: Conditions in the columns of `u` of the samples.
        condition_normalizer: Normalizer of all columns of `u`.
        query: Normalizers of the query points, if samples have any.
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
        """Return splits with transformed samples in memory.

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
        """Return splits with additional input features.

        They are normalized by their mean and standard deviation over the training
        split.

        Args:
            names: Attributes of the samples with a value per point, such as `"normal"`.

        Raises:
            ValueError: If a sample does not have one, or training recomputes the input.
        """
        if self.train_transform is not None:
            raise ValueError(
                f"features is {tuple(names)}, but {self.train_transform} recomputes "
                "the input of this benchmark in each step: leave features out"
            )
        sample, added = self.train[0], []
        for name in names:
            value = get_feature(sample, name)
            if not isinstance(value, Tensor) or len(value) != sample.num_nodes:
                raise ValueError(
                    f"features has {name!r}, but the samples have {sample.keys()}"
                )
            added.append(Field(name, value[0].numel()))

        def add(data: Data) -> Data:
            columns = [get_feature(data, name).view(len(data.x), -1) for name in names]
            data.x = torch.cat([data.x, *columns], dim=1)
            return data

        splits, width = self.transform(add), sample.x.size(1)
        input_normalizer = self.input_normalizer or Normalizer.identity(width)
        of_added = Normalizer.gaussian(data.x[:, width:] for data in splits.train)
        return replace(
            splits,
            features=(*self.features, *added),
            input_normalizer=Normalizer.cat([input_normalizer, of_added]),
        )

    def with_conditions(self, how: str) -> "Splits":
        """Return splits with another encoding of the conditions.

        Args:
            how: `"film"` for `u`, as in these splits; `"broadcast"` for features that
                are equal at all points of a sample; or `"none"` to omit them.

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
        input_normalizer = self.input_normalizer or Normalizer.identity(width)
        of_added = self.condition_normalizer or Normalizer.identity(
            num_channels(self.conditions)
        )
        train_transform = None
        if self.train_transform is not None:  # may change `u` and recompute `x`
            train_transform = Compose([_as_u, self.train_transform, _Broadcast(width)])
        return replace(
            splits.transform(_Broadcast(width)),
            train_transform=train_transform,
            features=(*self.features, *self.conditions),
            input_normalizer=Normalizer.cat([input_normalizer, of_added]),
        )

    def with_weights(self) -> "Splits":
        """Return splits with points weighted by area or volume."""

        def add(data: Data) -> Data:
            weight = quadrature_weights(
                data.pos,
                data.get("area"),
                data.get("grid"),
                data.get("cells"),
                surface="normal" in data,
            )
            # With mean one: only the ratios matter.
            data.weight = weight / weight.mean()
            return data

        return replace(self.transform(add), weighted=True)


class _Broadcast(BaseTransform):
    """Copies the conditions into trailing columns of `x` at all points.

    The conditions are renamed from `u`, which networks use, to `conditions`.

    Args:
        width: Number of leading columns of `x` to keep.
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
