"""What loaders of benchmark data share."""

import copy
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch_geometric.data import Data

from torch_geometric_flare.datasets import SimulatedDataset, Simulator
from torch_geometric_flare.datasets.simulator import conditions_of
from torch_geometric_flare.experiments.splits import Selection, Splits
from torch_geometric_flare.fields import (
    Fields,
    channel_slices,
    choose_fields,
    num_channels,
)
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.surrogates import QueryPoints
from torch_geometric_flare.transforms import Normalizer

Statistics = Callable[[Sequence[Data], Fields], Normalizer | None]
"""From a training split and its features to the normalizer of `x`."""


def load_simulated(
    simulator: Simulator,
    selection: Selection,
    *,
    num_train: int,
    num_test: int,
    default_fields: Sequence[str] | None = None,
    input_statistics: Statistics | None = None,
) -> Splits:
    """Return simulated splits, held in memory.

    Targets, features and conditions are normalized by their mean and deviation over the
    training split, coordinates by the simulator's box. Samples lie at the points of a
    mesh or grid. Query points of a simulator are normalized likewise, their
    coordinates from its box to [-1, 1].

    Args:
        simulator: The physics.
        selection: Which data; its `num_points` is for the caller, who makes the
            simulator.
        num_train: Samples to train on, unless the selection says otherwise.
        num_test: Samples to test on, likewise.
        default_fields: Names of the targets, likewise; all by default.
        input_statistics: What normalizes `x`; by default `feature_statistics`.

    Raises:
        ValueError: If the simulator has no such fields.
    """
    names = selection.fields or default_fields
    fields = choose_fields(names, simulator.fields) if names else simulator.fields
    numbers = {
        "train": selection.num_train or num_train,
        "val": selection.num_val,
        "test": selection.num_test or num_test,
    }
    # A few small samples: read once, not again in every epoch.
    conditions = conditions_of(simulator)
    datasets = {
        split: SimulatedDataset(selection.root, simulator, number, split)
        for split, number in numbers.items()
        if number
    }
    splits = {
        split: [_with_targets(data, simulator.fields, fields) for data in dataset]
        for split, dataset in datasets.items()
    }
    train = splits["train"]
    bounds = simulator.coordinate_bounds
    return Splits(
        train=train,
        val=splits.get("val"),
        test=splits["test"],
        fields=fields,
        features=simulator.features,
        target_normalizer=Normalizer.gaussian(data.y for data in train),
        coordinate_normalizer=bounds and Normalizer.from_bounds(*bounds),
        input_normalizer=(input_statistics or feature_statistics)(
            train, simulator.features
        ),
        location="point",
        conditions=conditions,
        condition_normalizer=(
            Normalizer.gaussian(
                (data.u for data in train), names=[c.name for c in conditions]
            )
            if conditions
            else None
        ),
        query=_query_points(datasets["train"], train),
    )


def _query_points(
    dataset: SimulatedDataset, train: Sequence[Data]
) -> QueryPoints | None:
    """Return what normalizes the query points of simulated samples, if any."""
    if not dataset.query_fields:
        return None
    dimension, bounds = train[0].query_pos.size(1), dataset.query_coordinate_bounds
    parts = [Normalizer.identity(dimension)]
    if bounds is not None:
        parts = [Normalizer([0.5] * dimension, [0.5] * dimension)]
    if dataset.query_features:
        features = (data.query_x[:, dimension:] for data in train)
        parts.append(Normalizer.gaussian(features))
    return QueryPoints(
        Normalizer.gaussian(data.query_y for data in train),
        bounds and Normalizer.from_bounds(*bounds),
        fields=dataset.query_fields,
        features=dataset.query_features,
        input_normalizer=Normalizer.cat(parts),
    )


def load_official(
    open_split: Callable[[str], Any],
    selection: Selection,
    *,
    available: Fields,
    input_statistics: Statistics | None = None,
    coordinate_normalizer: Normalizer | None = None,
) -> Splits:
    """Return the splits `"train"` and `"test"` of a published data set.

    Targets are normalized by their mean and deviation over the training split. Samples
    lie at the points of a mesh or grid.

    Args:
        open_split: Returns the data set of a split.
        selection: Which data; its `num_points` and `fields` are for `open_split`.
        available: Fields of the data set, of which those of the selection must be.
        input_statistics: What normalizes `x`; by default `feature_statistics`.
        coordinate_normalizer: That with which the data set has made `x` of `pos`.

    Raises:
        ValueError: If there are fewer samples than selected, or no such fields.
        OSError: If files are missing and cannot be fetched.
    """
    if selection.fields is not None:
        choose_fields(selection.fields, available)  # before any download
    train, val = train_and_val(open_split("train"), selection)
    test = first_samples(open_split("test"), selection.num_test, "num_test")
    return Splits(
        train=train,
        val=val,
        test=test,
        fields=train.fields,
        features=train.features,
        target_normalizer=Normalizer.gaussian(data.y for data in train),
        coordinate_normalizer=coordinate_normalizer,
        input_normalizer=(input_statistics or feature_statistics)(
            train, train.features
        ),
        location="point",
    )


def feature_statistics(train: Sequence[Data], features: Fields) -> Normalizer | None:
    """Return the normalizer of `x` that leaves coordinates alone.

    Args:
        train: The training split.
        features: What the columns after the coordinates are; without any, the result
            is `None`.
    """
    if not features:
        return None
    dimension = train[0].pos.size(1)
    of_features = Normalizer.gaussian(data.x[:, dimension:] for data in train)
    return Normalizer.cat([Normalizer.identity(dimension), of_features])


def coordinate_statistics(train: Sequence[Data], features: Fields) -> Normalizer | None:
    """Return the normalizer of all of `x` by its mean and deviation.

    Args:
        train: The training split.
        features: What the columns after the coordinates are.
    """
    return Normalizer.gaussian(data.x for data in train)


def fit_input_normalizer(recipe: Recipe, splits: Splits) -> Normalizer | None:
    """Return the normalizer of `x` that a recipe asks for, of the training split alone.

    Args:
        recipe: Its `coordinates` say how to encode the coordinates.
        splits: Their own normalizer encodes the features, and the coordinates too where
            the recipe leaves them as given.
    """
    given = splits.input_normalizer
    if recipe.coordinates == "given":
        return given
    number = splits.train[0].x.size(1) - num_channels(splits.features)
    rows = [data.x[:, :number] for data in splits.train]
    if recipe.coordinates == "statistics":
        coordinates = Normalizer.gaussian(rows)
    else:
        lower = torch.stack([row.amin(0) for row in rows]).amin(0)
        upper = torch.stack([row.amax(0) for row in rows]).amax(0)
        half = (upper - lower) / 2
        # Along an axis where all coordinates agree there is no extent to divide by.
        coordinates = Normalizer((lower + upper) / 2, half.where(half > 0, 1.0))
    if not splits.features:
        return coordinates
    if given is None:
        rest = Normalizer.identity(num_channels(splits.features))
    else:
        rest = Normalizer(given.shift[number:], given.scale[number:])
    return Normalizer.cat([coordinates, rest])


def refuse_number_of_points(selection: Selection, what: str) -> None:
    """Check that no number of points is selected where it is fixed.

    Args:
        selection: Which data.
        what: The samples and their points, for the message.

    Raises:
        ValueError: If one is.
    """
    if selection.num_points is not None:
        raise ValueError(
            f"--num-points is {selection.num_points}, but {what}: leave it out"
        )


def first_samples(dataset: Any, number: int | None, name: str) -> Any:
    """Return the first samples of a data set, all by default.

    Args:
        dataset: A PyG data set.
        number: How many.
        name: What the argument is called, for the message.

    Raises:
        ValueError: If there are fewer.
    """
    if number is None:
        return dataset
    if number > len(dataset):
        raise ValueError(f"{name} is {number}, but there are {len(dataset)} samples")
    return dataset[:number]


def train_and_val(dataset: Any, selection: Selection) -> tuple[Any, Any]:
    """Divide a published training split into one to train and one to validate on.

    Args:
        dataset: A PyG data set.
        selection: How many of each. Those to validate on follow the others.

    Returns:
        Both parts; the second is `None` if there is to be none.

    Raises:
        ValueError: If there are fewer samples than selected, or none left to train on.
    """
    held_out = selection.num_val
    if not held_out:
        return first_samples(dataset, selection.num_train, "num_train"), None
    number = selection.num_train or len(dataset) - held_out
    if number < 1 or number + held_out > len(dataset):
        raise ValueError(
            f"num_train is {selection.num_train or 'all'} and num_val {held_out}, but "
            f"there are {len(dataset)} samples to divide"
        )
    return dataset[:number], dataset[number : number + held_out]


def number_of_points(text: str | None, default: int) -> int:
    """Return the number that a text such as `4000`, `10k` or `1m` means.

    Raises:
        ValueError: If it means none.
    """
    if text is None:
        return default
    match = re.fullmatch(r"([0-9]+)([km]?)", text.lower())
    if match is None or int(match[1]) == 0:
        raise ValueError(f"--num-points is {text}: give 4000, 10k or 1m")
    return int(match[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[match[2]]


def _with_targets(data: Data, available: Fields, chosen: Fields) -> Data:
    if chosen == available:
        return data
    columns = channel_slices(available)
    reduced = copy.copy(data)
    reduced.y = torch.cat([data.y[:, columns[field.name]] for field in chosen], dim=1)
    return reduced
