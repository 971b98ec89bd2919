"""The second table of a comparison: quantities such as drag and lift."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from torch_geometric_flare.experiments.own_process import Record
from torch_geometric_flare.experiments.quantities import errors_of, quantity_names
from torch_geometric_flare.experiments.summary import format_number

_BASELINE = "mean of the training samples"


@dataclass(frozen=True, kw_only=True)
class QuantityRow:
    """How well a model, or the training mean, predicts a quantity.

    Attributes:
        quantity: Name of the quantity, such as `drag_coefficient`.
        model: Name of the model's class, or what the baseline is.
        runs: Runs that have finished.
        mean_absolute_error: Over the test samples; mean over the runs.
        mean_absolute_error_deviation: Its standard deviation over the runs; `None` for
            one.
        r2: $R^2$ over the test samples; mean over the runs.
        rank_correlation: Spearman's, over the test samples; mean over the runs.
    """

    quantity: str
    model: str
    runs: int = 0
    mean_absolute_error: float
    mean_absolute_error_deviation: float | None = None
    r2: float | None = None
    rank_correlation: float | None = None


def summarize_quantities(records: Sequence[Record]) -> list[QuantityRow]:
    """Return for each quantity one row per model, then the training mean.

    Args:
        records: Records of all runs, see `own_process.run_in_own_process`.
    """
    finished = [record for record in records if "error" not in record]
    rows: list[QuantityRow] = []
    for name in quantity_names(finished[0]) if finished else []:
        for model in dict.fromkeys(record["model"] for record in finished):
            rows.append(_row(name, model, finished))
        # It knows no seed: that of any run is that of all.
        baseline = errors_of(finished[0], name)["mean_absolute_error_of_training_mean"]
        if baseline is not None:
            rows.append(
                QuantityRow(
                    quantity=name, model=_BASELINE, mean_absolute_error=baseline
                )
            )
    return rows


def _row(name: str, model: str, finished: Sequence[Record]) -> QuantityRow:
    errors = [
        errors_of(record, name) for record in finished if record["model"] == model
    ]
    absolute = [error["mean_absolute_error"] for error in errors]
    return QuantityRow(
        quantity=name,
        model=model,
        runs=len(errors),
        mean_absolute_error=statistics.fmean(absolute),
        mean_absolute_error_deviation=(
            statistics.stdev(absolute) if len(absolute) > 1 else None
        ),
        r2=_mean([error["r2"] for error in errors]),
        rank_correlation=_mean([error["rank_correlation"] for error in errors]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
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
        error = format_number(row.mean_absolute_error)
        if row.mean_absolute_error_deviation is not None:
            error += f" ± {format_number(row.mean_absolute_error_deviation, 2)}"
        numbers = [row.r2, row.rank_correlation]
        shown = ["" if number is None else f"{number:.2f}" for number in numbers]
        cells.append([row.quantity.replace("_", " "), row.model, error, *shown])
    return headings, cells
