"""Ablation of one model on one benchmark over combinations of its options."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from torch_geometric_flare._random import keep_random_state
from torch_geometric_flare.experiments.build import choose_recipe, make_module
from torch_geometric_flare.experiments.compare import finish_runs, settle
from torch_geometric_flare.experiments.config import AblationConfig, RunConfig
from torch_geometric_flare.experiments.isolated_run import Record
from torch_geometric_flare.experiments.report import write_comparison
from torch_geometric_flare.experiments.run import with_folder
from torch_geometric_flare.experiments.tables import Row, format_spread

_MEASURED = (
    "relative_l2",
    "parameters",
    "steps",
    "training_seconds",
    "seconds_per_step",
    "peak_memory_mib",
    "points_per_second",
)


def ablate(config: AblationConfig) -> list[Row]:
    """Train a model with each combination of some options, and write a report.

    All runs share the data, the budget and the seeds, and each has its own process. A
    second call for the same folder does only the unfinished runs, as in
    `compare_models`; values, options and seeds may be added.

    Writes the files of `compare_models`, `ablation.csv` with a line per run, and
    `ablation.png`: mean and standard deviation of the error over the seeds, as a line
    plot for one option or as a heat map for two.

    Args:
        config: The ablation. Its `run.problem` must be a name, since a `Benchmark`
            cannot be sent to another process.

    Returns:
        The table: one row per combination, then two baselines.

    Raises:
        ValueError: If the model has no such option, a network cannot be built with a
            value, or the folder has runs with other settings.
        OSError: If files are missing.
    """
    run = config.run
    _check(config.runs)
    run = with_folder(run, "ablate-")
    config = replace(config, run=run)
    folder = Path(str(run.folder))
    settings = settle(config, folder)
    records = finish_runs(config.runs, config.seeds, folder)
    _write_runs(folder / "ablation.csv", config, records)

    def draw(rows: Sequence[Row], title: str) -> dict[str, Figure]:
        figure = plot_ablation(config, rows, f"{title}, {run.model}")
        figure.savefig(folder / "ablation.png", dpi=150)
        return {f"Error over {' and '.join(config.axes)}": figure}

    return write_comparison(run, settings, records, draw)


def plot_ablation(config: AblationConfig, rows: Sequence[Row], title: str) -> Figure:
    """Plot the errors of an ablation as a line (one option) or a heat map (two).

    Args:
        config: The ablation.
        rows: Its table.
        title: Title; should state whether the data are simulated.

    Returns:
        A figure to be saved with `figure.savefig`.
    """
    by_name = {row.model: row for row in rows}
    cells = [by_name[name] for name in config.cells]
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axis = figure.subplots()
    if len(config.axes) == 1:
        _draw_line(axis, config, cells)
    else:
        _draw_heat_map(figure, axis, config, cells)
    axis.set_title(f"{title}\nmean ± standard deviation over the seeds")
    return figure


def _draw_line(axis: Axes, config: AblationConfig, cells: Sequence[Row]) -> None:
    ((name, values),) = config.axes.items()
    measured = [(place, row) for place, row in enumerate(cells) if row.relative_l2]
    axis.errorbar(
        [place for place, _ in measured],
        [row.relative_l2 or 0.0 for _, row in measured],
        yerr=[row.relative_l2_deviation or 0.0 for _, row in measured],
        marker="o",
        capsize=4,
    )
    axis.set_xticks(range(len(values)), [str(value) for value in values])
    axis.set_xlabel(name)
    axis.set_ylabel("relative L2 error")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.4)


def _draw_heat_map(
    figure: Figure, axis: Axes, config: AblationConfig, cells: Sequence[Row]
) -> None:
    (down, rows), (across, columns) = config.axes.items()
    missing = float("nan")
    errors = [missing if row.relative_l2 is None else row.relative_l2 for row in cells]
    width = len(columns)
    image = axis.imshow(
        [errors[start : start + width] for start in range(0, len(errors), width)],
        cmap="viridis_r",
        aspect="auto",
    )
    for place, row in enumerate(cells):
        text = "failed"
        if row.relative_l2 is not None:
            text = format_spread(row.relative_l2, row.relative_l2_deviation, "\n± ")
        position = place % width, place // width
        box = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 2}
        axis.text(*position, text, ha="center", va="center", bbox=box)
    axis.set_xticks(range(width), [str(value) for value in columns])
    axis.set_yticks(range(len(rows)), [str(value) for value in rows])
    axis.set_xlabel(across)
    axis.set_ylabel(down)
    figure.colorbar(image, ax=axis, label="relative L2 error")


@keep_random_state()
def _check(runs: dict[str, RunConfig]) -> None:
    """Build the network of every combination before training any."""
    recipes = {name: choose_recipe(run) for name, run in runs.items()}
    first = next(iter(runs.values()))
    splits = first.benchmark.load(first.selection)
    for name, recipe in recipes.items():
        try:
            make_module(splits, recipe, "")
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{name}: {error}") from error


def _write_runs(path: Path, config: AblationConfig, records: Sequence[Record]) -> None:
    """Write a line with the options, the seed and the measurements of each run."""
    names = [*config.axes, "seed", *_MEASURED, "error"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(
            {**config.cells[record["model"]], **record} for record in records
        )
