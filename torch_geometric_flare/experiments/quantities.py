"""What a benchmark measures beside the relative error of its fields."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.fields import Fields, channel_slices
from torch_geometric_flare.metrics import r2_score


def further_measures(
    benchmark: Benchmark,
    samples: Sequence[Data],
    predictions: Sequence[Tensor],
    fields: Fields,
) -> dict[str, float | None]:
    r"""Return the benchmark's own errors, and how well its quantities are predicted.

    Args:
        benchmark: The problem.
        samples: The test samples, with their true fields `y`.
        predictions: The predicted fields of each, $[N, C]$.
        fields: What the columns are.

    Returns:
        The mean of each error over the samples, by its name. For each quantity, such as
        the drag coefficient, the means of the true and of the predicted values as
        `..._true` and `..._predicted`; the absolute error per sample, its mean as
        `..._mean_absolute_error`, its standard deviation as
        `..._absolute_error_deviation`, its largest value as
        `..._largest_absolute_error`, and the sample that has it as `..._worst_sample`;
        and $R^2$ over the samples as `..._r2`. `None` where a quantity is not known of
        every sample, for the deviation of one sample, and for $R^2$ where all true
        values are the same.
    """
    predicted = [_by_name(y, fields) for y in predictions]
    true = [_by_name(data.y, fields) for data in samples]
    errors = [benchmark.errors(*pair) for pair in zip(predicted, true, strict=True)]
    measures: dict[str, float | None] = {
        name: sum(one[name] for one in errors) / len(errors) for name in errors[0]
    }
    found, expected = (
        [benchmark.quantities(*pair) for pair in zip(samples, values, strict=True)]
        for values in (predicted, true)
    )
    for name in expected[0]:
        measures |= _compare(name, *_known(found, expected, name))
    return measures


def _by_name(y: Tensor, fields: Fields) -> Mapping[str, Tensor]:
    return {name: y[:, columns] for name, columns in channel_slices(fields).items()}


def _known(
    found: Sequence[Mapping[str, float | None]],
    expected: Sequence[Mapping[str, float | None]],
    name: str,
) -> tuple[Tensor | None, Tensor | None]:
    """Return the values of all samples, or nothing where one is not known."""
    values = []
    for records in (found, expected):
        numbers = [record[name] for record in records]
        known = [number for number in numbers if number is not None]
        complete = len(known) == len(numbers)
        values.append(torch.tensor(known, dtype=torch.float64) if complete else None)
    return values[0], values[1]


def _compare(
    name: str, found: Tensor | None, expected: Tensor | None
) -> dict[str, float | None]:
    measures: dict[str, float | None] = {
        f"{name}_true": None if expected is None else expected.mean().item(),
        f"{name}_predicted": None if found is None else found.mean().item(),
        f"{name}_mean_absolute_error": None,
        f"{name}_absolute_error_deviation": None,
        f"{name}_largest_absolute_error": None,
        f"{name}_worst_sample": None,
        f"{name}_r2": None,
    }
    if found is not None and expected is not None:
        errors = (found - expected).abs()
        measures[f"{name}_mean_absolute_error"] = errors.mean().item()
        if errors.numel() > 1:
            measures[f"{name}_absolute_error_deviation"] = errors.std().item()
        measures[f"{name}_largest_absolute_error"] = errors.max().item()
        measures[f"{name}_worst_sample"] = int(errors.argmax())
        if expected.unique().numel() > 1:
            measures[f"{name}_r2"] = r2_score(found, expected).item()
    return measures
