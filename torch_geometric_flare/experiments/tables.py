"""The tables of a comparison: errors and costs, and quantities of interest."""

import csv
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from torch_geometric_flare.experiments.isolated_run import Record
from torch_geometric_flare.experiments.published import Published
from torch_geometric_flare.experiments.quantities import errors_of, quantity_names

_TRAINING_MEAN = "mean of the training samples"
_BASELINES = {
    _TRAINING_MEAN: "relative_l2_of_training_mean",
    "nearest training sample": "relative_l2_of_nearest_training_sample",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table: a model or a baseline.

    Attributes:
        model: Class name of the model, or description of the baseline.
        runs: Number of finished runs.
        relative_l2: Mean over the runs of the relative $L_2$ error.
        relative_l2_deviation: Its standard deviation over the runs; `None` for one run.
        parameters: Number of trainable parameters.
        steps: Number of training steps; mean over the runs.
        training_seconds: Time of these steps; mean over the runs.
        seconds_per_step: Median time per step; mean over the runs.
        peak_memory_mib: Peak memory in MiB; maximum over the runs.
        points_per_second: Points predicted per second; mean over the runs.
        published_relative_l2: Published error, if comparable; from the oldest source if
            there are several.
        error: Reason why runs of the model failed, one sentence.
    """

    model: str
    runs: int = 0
    relative_l2: float | None = None
    relative_l2_deviation: float | None = None
    parameters: int | None = None
    steps: float | None = None
    training_seconds: float | None = None
    seconds_per_step: float | None = None
    peak_memory_mib: float | None = None
    points_per_second: float | None = None
    published_relative_l2: float | None = None
    error: str | None = None


def summarize(
    records: Sequence[Record], published: Sequence[Published] = ()
) -> list[Row]:
    """Return one row per model in the order of the records, then the baselines.

    Args:
        records: Records of all runs, see `isolated_run.isolated_run`.
        published: Comparable published errors, oldest source first.
    """
    figures = {figure.model: figure.relative_l2 for figure in reversed(published)}
    rows = []
    for model in dict.fromkeys(record["model"] for record in records):
        model_records = [record for record in records if record["model"] == model]
        rows.append(_row(model, model_records, figures.get(model)))
    # Baselines are independent of the seed and so equal for all runs.
    finished = next((record for record in records if "error" not in record), None)
    if finished is not None:
        rows += [
            Row(model=name, relative_l2=finished[key])
            for name, key in _BASELINES.items()
        ]
    return rows


def _row(model: str, records: Sequence[Record], published: float | None) -> Row:
    finished = [record for record in records if "error" not in record]
    failures = [record["error"] for record in records if "error" in record]
    error = failures[0] if failures else None
    if not finished:
        return Row(model=model, published_relative_l2=published, error=error)
    errors = [record["relative_l2"] for record in finished]
    peaks = [record["peak_memory_mib"] for record in finished]
    return Row(
        model=model,
        runs=len(finished),
        relative_l2=statistics.fmean(errors),
        relative_l2_deviation=_deviation(errors),
        parameters=finished[0]["parameters"],
        steps=_mean(finished, "steps"),
        training_seconds=_mean(finished, "training_seconds"),
        seconds_per_step=_mean(finished, "seconds_per_step"),
        peak_memory_mib=None if None in peaks else max(peaks),
        points_per_second=_mean(finished, "points_per_second"),
        published_relative_l2=published,
        error=error,
    )


def _mean(records: Sequence[Record], name: str) -> float:
    return statistics.fmean(record[name] for record in records)


def _deviation(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def write_csv(path: Path, kind: type[Any], rows: Sequence[Any]) -> None:
    """Write all columns with all digits; unknown values are empty.

    Args:
        path: The file.
        kind: The dataclass of a row.
        rows: The table.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(kind)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def table_cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return headings and formatted cells of the table.

    The column of published errors appears only if any row has one.

    Args:
        rows: The table.
    """
    headings = [
        "Model",
        "Relative L2",
        "Parameters",
        "Steps",
        "Training (s)",
        "Seconds per step",
        "Peak memory (MiB)",
        "Points per second",
        "Runs",
    ]
    with_published = any(row.published_relative_l2 is not None for row in rows)
    if with_published:
        headings.append("Published relative L2")
    cells = []
    for row in rows:
        line = [
            row.model,
            _error_cell(row),
            _rounded(row.parameters),
            _rounded(row.steps),
            format_number(row.training_seconds),
            format_number(row.seconds_per_step),
            _rounded(row.peak_memory_mib),
            _rounded(row.points_per_second),
            str(row.runs) if row.runs else "",
        ]
        if with_published:
            line.append(format_number(row.published_relative_l2))
        cells.append(line)
    return headings, cells


def _error_cell(row: Row) -> str:
    if row.relative_l2 is None:
        return f"failed: {row.error}"
    cell = format_spread(row.relative_l2, row.relative_l2_deviation)
    return f"{cell} (some failed: {row.error})" if row.error else cell


def format_number(value: float | None, digits: int = 3) -> str:
    """Format a number with so many significant digits and without an exponent.

    Args:
        value: The number; `None` gives an empty string.
        digits: Number of significant digits.
    """
    if value is None:
        return ""
    if value == 0 or not math.isfinite(value):
        return str(value)
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}"


def format_spread(value: float, deviation: float | None, sign: str = " ± ") -> str:
    """Format a mean with its standard deviation, if there is one."""
    spread = "" if deviation is None else sign + format_number(deviation, 2)
    return format_number(value) + spread


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


@dataclass(frozen=True, kw_only=True)
class QuantityRow:
    """Errors of a model or of the training mean for a quantity.

    Attributes:
        quantity: Name of the quantity, such as `drag_coefficient`.
        model: Class name of the model, or description of the baseline.
        runs: Number of finished runs.
        mean_absolute_error: Mean absolute error over the test samples; mean over the
            runs.
        mean_absolute_error_deviation: Its standard deviation over the runs; `None` for
            one run.
        r2: $R^2$ over the test samples; mean over the runs.
        rank_correlation: Spearman's rank correlation over the test samples; mean over
            the runs.
    """

    quantity: str
    model: str
    runs: int = 0
    mean_absolute_error: float
    mean_absolute_error_deviation: float | None = None
    r2: float | None = None
    rank_correlation: float | None = None


def summarize_quantities(records: Sequence[Record]) -> list[QuantityRow]:
    """Return for each quantity one row per model, then one for the training mean.

    Args:
        records: Records of all runs, see `isolated_run.isolated_run`.
    """
    finished = [record for record in records if "error" not in record]
    rows: list[QuantityRow] = []
    for name in quantity_names(finished[0]) if finished else []:
        for model in dict.fromkeys(record["model"] for record in finished):
            rows.append(_quantity_row(name, model, finished))
        # The baseline is independent of the seed and so equal for all runs.
        baseline = errors_of(finished[0], name)["mean_absolute_error_of_training_mean"]
        if baseline is not None:
            rows.append(
                QuantityRow(
                    quantity=name, model=_TRAINING_MEAN, mean_absolute_error=baseline
                )
            )
    return rows


def _quantity_row(name: str, model: str, finished: Sequence[Record]) -> QuantityRow:
    errors = [
        errors_of(record, name) for record in finished if record["model"] == model
    ]
    absolute = [error["mean_absolute_error"] for error in errors]
    return QuantityRow(
        quantity=name,
        model=model,
        runs=len(errors),
        mean_absolute_error=statistics.fmean(absolute),
        mean_absolute_error_deviation=_deviation(absolute),
        r2=_known_mean([error["r2"] for error in errors]),
        rank_correlation=_known_mean([error["rank_correlation"] for error in errors]),
    )


def _known_mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def quantity_cells(rows: Sequence[QuantityRow]) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells of the table for people.

    Args:
        rows: The table.
    """
    headings = ["Quantity", "Model", "Mean absolute error", "R²", "Rank correlation"]
    cells = []
    for row in rows:
        deviation = row.mean_absolute_error_deviation
        error = format_spread(row.mean_absolute_error, deviation)
        numbers = [row.r2, row.rank_correlation]
        formatted = ["" if number is None else f"{number:.2f}" for number in numbers]
        cells.append([row.quantity.replace("_", " "), row.model, error, *formatted])
    return headings, cells
