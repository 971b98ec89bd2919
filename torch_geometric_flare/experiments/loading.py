"""Functions shared by the loaders of benchmark data."""

import copy
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch_geometric.data import Data

from torch_geometric_flare.datasets import SimulatedDataset, Simulator
from torch_geometric_flare.datasets.simulator import conditions_of
from torch_geometric_flare.experiments.splits import Selection, Splits
from torch_geometric_flare.fields import Fields, channel_slices, choose_fields
from torch_geometric_flare.surrogates import QueryPoints
from torch_geometric_flare.transforms import Normalizer

Statistics = Callable[[Sequence[Data], Fields], Normalizer | None]
"""Maps a training split and its features to the normalizer of `x`."""


def load_simulated(
    simulator: Simulator,
    selection: Selection,
    *,
    num_train: int,
    num_test: int,
    default_fields: Sequence[str] | None = None,
    input_statistics: Statistics | None = None,
) -> Splits:
    """Return simulated splits in memory.

    Targets, features and conditions are normalized by their mean and standard deviation
    over the training split, coordinates by the bounding box of the simulator. The
    values are at the points of a mesh or grid. Query points of a simulator are
    normalized likewise, but their coordinates from its bounding box to [-1, 1].

    Args:
        simulator: The simulator.
        selection: The selection; `num_points` is ignored, and left to the caller, who
            creates the simulator.
        num_train: Default number of training samples.
        num_test: Default number of test samples.
        default_fields: Default names of the targets; all if `None`.
        input_statistics: Computes the normalizer of `x`; by default
            `feature_statistics`.

    Raises:
        ValueError: If the simulator does not have the fields.
    """
    names = selection.fields or default_fields
    fields = choose_fields(names, simulator.fields) if names else simulator.fields
    numbers = {
        "train": selection.num_train or num_train,
        "val": selection.num_val,
        "test": selection.num_test or num_test,
    }
    # A few small samples: read them once instead of in every epoch.
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
    """Return the normalizers of the query points of simulated samples, if any."""
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

    Targets are normalized by their mean and standard deviation over the training split.
    The values are at the points of a mesh or grid.

    Args:
        open_split: Returns the data set of a split by name.
        selection: The selection; `num_points` and `fields` are left to `open_split`.
        available: Fields of the data set, which must include those of the selection.
        input_statistics: Computes the normalizer of `x`; by default
            `feature_statistics`.
        coordinate_normalizer: The normalizer with which the data set has computed `x`
            from `pos`.

    Raises:
        ValueError: If there are fewer samples than selected, or the fields do not
            exist.
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
    """Return the normalizer of `x` that leaves the coordinates unchanged.

    Args:
        train: The training split.
        features: Features in the columns after the coordinates; if empty, the result is
            `None`.
    """
    if not features:
        return None
    dimension = train[0].pos.size(1)
    of_features = Normalizer.gaussian(data.x[:, dimension:] for data in train)
    return Normalizer.cat([Normalizer.identity(dimension), of_features])


def coordinate_statistics(train: Sequence[Data], features: Fields) -> Normalizer | None:
    """Return the normalizer of all of `x` by its mean and standard deviation.

    Args:
        train: The training split.
        features: Features in the columns after the coordinates.
    """
    return Normalizer.gaussian(data.x for data in train)


def first_samples(dataset: Any, number: int | None, name: str) -> Any:
    """Return the first samples of a data set.

    Args:
        dataset: A PyG data set.
        number: Number of samples; `None` for all.
        name: Name of the argument, for the message.

    Raises:
        ValueError: If there are fewer samples.
    """
    if number is None:
        return dataset
    if number > len(dataset):
        raise ValueError(f"{name} is {number}, but there are {len(dataset)} samples")
    return dataset[:number]


def train_and_val(dataset: Any, selection: Selection) -> tuple[Any, Any]:
    """Divide a published training split into training and validation samples.

    Args:
        dataset: A PyG data set.
        selection: The numbers of samples. The validation samples follow the training
            samples.

    Returns:
        Both parts; the second is `None` without validation samples.

    Raises:
        ValueError: If there are fewer samples than selected, or none left for training.
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
    """Parse a number of points such as `4000`, `10k` or `1m`.

    Raises:
        ValueError: If the text has another form.
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
