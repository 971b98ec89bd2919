"""What a benchmark measures beside the relative error of its fields."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.experiments.quantity_errors import (
    QuantityErrors,
    describe_errors,
    quantity_errors,
)
from torch_geometric_flare.fields import Fields, channel_slices

_ERRORS = [field.name for field in fields(QuantityErrors)]


def further_measures(
    benchmark: Benchmark,
    train: Iterable[Data],
    samples: Sequence[Data],
    predictions: Sequence[Tensor],
    target: Fields,
) -> dict[str, float | None]:
    r"""Return the benchmark's own errors, and how well its quantities are predicted.

    Args:
        benchmark: The problem.
        train: The training samples, whose mean quantities are the baseline.
        samples: The test samples, with their true fields `y`.
        predictions: The predicted fields of each, $[N, C]$.
        target: What the columns are.

    Returns:
        The mean of each error over the samples, by its name. For each quantity, such as
        the drag coefficient, the means of the true and of the predicted values as
        `..._true` and `..._predicted`, and each of `QuantityErrors` by its name, such
        as `..._mean_absolute_error`, `..._r2` and `..._rank_correlation`; `None` where
        the quantity is not known of every sample.
    """
    predicted = [_by_name(y, target) for y in predictions]
    true = [_by_name(data.y, target) for data in samples]
    errors = [benchmark.errors(*pair) for pair in zip(predicted, true, strict=True)]
    measures: dict[str, float | None] = {
        name: sum(one[name] for one in errors) / len(errors) for name in errors[0]
    }
    found, expected = (
        _known(map(benchmark.quantities, samples, values))
        for values in (predicted, true)
    )
    trained: dict[str, Tensor | None] = {}
    # Official cars have no normals, and so no forces: that split is not read again.
    if any(values is not None for values in expected.values()):
        trained = _known(
            benchmark.quantities(data, _by_name(data.y, target)) for data in train
        )
    for name in expected:
        measures |= _compare(name, found[name], expected[name], trained.get(name))
    return measures


def describe_quantities(results: Mapping[str, Any]) -> dict[str, str]:
    """Return a line for people about each quantity that is known.

    Args:
        results: What `further_measures` returned, among other results.

    Returns:
        By the quantity's name: what it is called and its errors.
    """
    return {
        name: describe_errors(name, errors_of(results, name))
        for name in quantity_names(results)
    }


def quantity_names(results: Mapping[str, Any]) -> list[str]:
    """Return the names of the quantities whose errors are known.

    Args:
        results: What `further_measures` returned, among other results.
    """
    suffix = "_rank_correlation"
    names = [key.removesuffix(suffix) for key in results if key.endswith(suffix)]
    return [
        name for name in names if results[f"{name}_mean_absolute_error"] is not None
    ]


def errors_of(results: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the errors of a quantity by the names of `QuantityErrors`.

    Args:
        results: What `further_measures` returned, among other results.
        name: The quantity.
    """
    return {error: results[f"{name}_{error}"] for error in _ERRORS}


def _by_name(y: Tensor, target: Fields) -> Mapping[str, Tensor]:
    return {name: y[:, columns] for name, columns in channel_slices(target).items()}


def _known(records: Iterable[Mapping[str, float | None]]) -> dict[str, Tensor | None]:
    """Return the values of all samples by name, `None` where one is not known."""
    listed = list(records)
    columns = {name: [record[name] for record in listed] for name in listed[0]}
    return {
        name: None if None in values else torch.tensor(values, dtype=torch.float64)
        for name, values in columns.items()
    }


def _compare(
    name: str, found: Tensor | None, expected: Tensor | None, trained: Tensor | None
) -> dict[str, float | None]:
    errors: dict[str, float | None] = dict.fromkeys(_ERRORS)
    if found is not None and expected is not None:
        mean = None if trained is None else trained.mean().item()
        errors = asdict(quantity_errors(found, expected, mean))
    return {
        f"{name}_true": None if expected is None else expected.mean().item(),
        f"{name}_predicted": None if found is None else found.mean().item(),
        **{f"{name}_{error}": value for error, value in errors.items()},
    }
