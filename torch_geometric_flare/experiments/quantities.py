"""Errors of quantities of a sample, such as the drag coefficient."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.fields import Fields, channel_slices
from torch_geometric_flare.metrics import r2_score

log = logging.getLogger(__name__)

ForceRow = dict[str, str | float]
"""The mesh, the source (`predicted` or `truth`), and each coefficient by its name."""
_LABELS = ("mesh", "source", "values_left_out")


@dataclass(frozen=True, kw_only=True)
class QuantityErrors:
    r"""Errors of one quantity over the test samples.

    Attributes:
        mean_absolute_error: Mean of the absolute error per sample.
        absolute_error_deviation: Its standard deviation; `None` for one sample.
        largest_absolute_error: Its largest value.
        worst_sample: Index of this sample.
        mean_absolute_error_of_training_mean: Mean absolute error of predicting the mean
            of the training samples for every sample; `None` if unknown.
        r2: $R^2$ over the samples; `None` if all true values are equal.
        rank_correlation: Spearman's rank correlation of predicted and true values,
            which is one if both order the samples alike. `None` if all true or all
            predicted values are equal.
    """

    mean_absolute_error: float
    absolute_error_deviation: float | None
    largest_absolute_error: float
    worst_sample: int
    mean_absolute_error_of_training_mean: float | None
    r2: float | None
    rank_correlation: float | None


def quantity_errors(
    predicted: Tensor, true: Tensor, training_mean: float | None = None
) -> QuantityErrors:
    r"""Return the errors of predicted values, and of predicting the training mean.

    Args:
        predicted: Predicted values.
        true: True values.
        training_mean: Mean of the true values of the training samples, if known.

    Shapes:
        - **predicted, true:** $(S)$, one number per sample, $S \ge 1$
    """
    predicted, true = predicted.double(), true.double()
    errors = (predicted - true).abs()
    varies, predictions_vary = (
        values.unique().numel() > 1 for values in (true, predicted)
    )
    baseline = None if training_mean is None else (true - training_mean).abs().mean()
    return QuantityErrors(
        mean_absolute_error=errors.mean().item(),
        absolute_error_deviation=errors.std().item() if errors.numel() > 1 else None,
        largest_absolute_error=errors.max().item(),
        worst_sample=int(errors.argmax()),
        mean_absolute_error_of_training_mean=None
        if baseline is None
        else float(baseline),
        r2=r2_score(predicted, true).item() if varies else None,
        rank_correlation=(
            float(spearmanr(predicted.numpy(), true.numpy()).statistic)
            if varies and predictions_vary
            else None
        ),
    )


def describe_errors(name: str, errors: Mapping[str, Any]) -> str:
    """Return a readable line with the known errors.

    Args:
        name: Name of the quantity.
        errors: Errors by the names of `QuantityErrors`.
    """
    baseline = "mean_absolute_error_of_training_mean"
    parts = [
        f"{label} {errors[key]:{digits}}"
        for label, key, digits in (
            ("mean absolute error", "mean_absolute_error", ".3g"),
            ("predicting the training mean", baseline, ".3g"),
            ("R²", "r2", ".2f"),
            ("rank correlation", "rank_correlation", ".2f"),
        )
        if errors[key] is not None
    ]
    return f"{name.replace('_', ' ')}: {', '.join(parts)}"


_ERRORS = [field.name for field in fields(QuantityErrors)]


def extra_metrics(
    benchmark: Benchmark,
    train: Iterable[Data],
    samples: Sequence[Data],
    predictions: Sequence[Tensor],
    target: Fields,
) -> dict[str, float | None]:
    r"""Return the errors specific to a benchmark, and those of its quantities.

    Args:
        benchmark: The problem.
        train: The training samples; their mean quantities are the baseline.
        samples: The test samples, with their true fields `y`.
        predictions: The predicted fields of each sample, $[N, C]$.
        target: Fields of the columns.

    Returns:
        The mean of each error over the samples, by name. For each quantity, such as the
        drag coefficient, the means of the true and of the predicted values as
        `..._true` and `..._predicted`, and each of `QuantityErrors` by its name, such
        as `..._mean_absolute_error`, `..._r2` and `..._rank_correlation`; `None` if the
        quantity is unknown for any sample, or not finite because the truth is not.
    """
    predicted = [_by_name(y, target) for y in predictions]
    true = [_by_name(data.y, target) for data in samples]
    errors = [benchmark.errors(*pair) for pair in zip(predicted, true, strict=True)]
    measures: dict[str, float | None] = {
        name: sum(one[name] for one in errors) / len(errors) for name in errors[0]
    }
    predicted_values, true_values = (
        _known(map(benchmark.quantities_of_interest, samples, values), true=is_true)
        for values, is_true in ((predicted, False), (true, True))
    )
    training_values: dict[str, Tensor | None] = {}
    # Official cars have no normals and so no forces; do not read their files again.
    if any(values is not None for values in true_values.values()):
        training_values = _known(
            benchmark.quantities_of_interest(data, _by_name(data.y, target))
            for data in train
        )
    for name in true_values:
        measures |= _compare(
            name, predicted_values[name], true_values[name], training_values.get(name)
        )
    return measures


def describe_quantities(results: Mapping[str, Any]) -> dict[str, str]:
    """Return a readable line for each known quantity.

    Args:
        results: Results that include those of `extra_metrics`.

    Returns:
        The lines, with the label and the errors, by name of the quantity.
    """
    return {
        name: describe_errors(name, errors_of(results, name))
        for name in quantity_names(results)
    }


def log_results(results: Mapping[str, Any]) -> None:
    """Log a line for each result.

    Args:
        results: Values by name.
    """
    for name, value in results.items():
        text = f"{value:.4g}" if isinstance(value, float) else value
        log.info(f"{name:42} {text}")


def quantity_names(results: Mapping[str, Any]) -> list[str]:
    """Return the names of the quantities with known errors.

    Args:
        results: Results that include those of `extra_metrics`.
    """
    suffix = "_rank_correlation"
    names = [key.removesuffix(suffix) for key in results if key.endswith(suffix)]
    return [
        name for name in names if results[f"{name}_mean_absolute_error"] is not None
    ]


def errors_of(results: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the errors of a quantity by the names of `QuantityErrors`.

    Args:
        results: Results that include those of `extra_metrics`.
        name: The quantity.
    """
    return {error: results[f"{name}_{error}"] for error in _ERRORS}


def _by_name(y: Tensor, target: Fields) -> Mapping[str, Tensor]:
    return {name: y[:, columns] for name, columns in channel_slices(target).items()}


def _known(
    records: Iterable[Mapping[str, float | None]], *, true: bool = True
) -> dict[str, Tensor | None]:
    """Return the values of all samples by name; `None` if any is unknown.

    A true value that is not finite is unknown: its field has gaps.
    """
    listed = list(records)
    columns = {name: [record[name] for record in listed] for name in listed[0]}
    known: dict[str, Tensor | None] = {}
    for name, values in columns.items():
        numbers = None
        if None not in values:
            numbers = torch.tensor(values, dtype=torch.float64)
            if true and not bool(numbers.isfinite().all()):
                numbers = None
        known[name] = numbers
    return known


def _compare(
    name: str, predicted: Tensor | None, true: Tensor | None, training: Tensor | None
) -> dict[str, float | None]:
    errors: dict[str, float | None] = dict.fromkeys(_ERRORS)
    if predicted is not None and true is not None:
        mean = None if training is None else training.mean().item()
        errors = asdict(quantity_errors(predicted, true, mean))
    return {
        f"{name}_true": None if true is None else true.mean().item(),
        f"{name}_predicted": None if predicted is None else predicted.mean().item(),
        **{f"{name}_{error}": value for error, value in errors.items()},
    }


def force_errors(
    rows: Sequence[ForceRow], training_means: Mapping[str, float]
) -> list[dict[str, str | float | None]]:
    """Return the errors of each coefficient over the meshes with true values.

    Args:
        rows: Predicted coefficients, and true ones for meshes with true values.
        training_means: Mean coefficients of the training meshes by name, if known.

    Returns:
        One row per coefficient: its name, the number of meshes, and the errors by the
        names of `QuantityErrors`; empty if no mesh has true values. A mesh whose true
        values have gaps is left out, because its true force is unknown.
    """
    predicted, true = (
        {row["mesh"]: row for row in rows if row["source"] == source}
        for source in ("predicted", "truth")
    )
    true = {mesh: row for mesh, row in true.items() if not row.get("values_left_out")}
    if not true:
        return []
    table = []
    for name in (name for name in rows[0] if name not in _LABELS):
        values, truths = (
            torch.tensor([float(side[mesh][name]) for mesh in true])
            for side in (predicted, true)
        )
        errors = asdict(quantity_errors(values, truths, training_means.get(name)))
        worst = list(true)[errors.pop("worst_sample")]
        table.append(
            {"coefficient": name, "meshes": len(true), **errors, "worst_mesh": worst}
        )
    return table
