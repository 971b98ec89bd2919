"""The report of a comparison as Markdown, self-contained HTML and tables."""

import io
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from torch_geometric_flare.datasets.records import write_json
from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.experiments.config import RunConfig
from torch_geometric_flare.experiments.isolated_run import Record
from torch_geometric_flare.experiments.page import (
    Section,
    render_markdown,
    render_page,
)
from torch_geometric_flare.experiments.published import Published
from torch_geometric_flare.experiments.run import published_figures
from torch_geometric_flare.experiments.tables import (
    QuantityRow,
    Row,
    quantity_cells,
    summarize,
    summarize_quantities,
    table_cells,
    write_csv,
)


def plot_cost(rows: Sequence[Row], title: str) -> Figure:
    """Plot the error of each model against the time per step.

    The area of a dot is proportional to the number of parameters, error bars are the
    standard deviation over the seeds, and dashed lines are baselines.

    Args:
        rows: The table.
        title: Title; should state whether the data are simulated.

    Returns:
        A figure to be saved with `figure.savefig`.
    """
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axis = figure.subplots()
    largest = max((row.parameters or 0 for row in rows), default=0)
    for index, row in enumerate(rows):
        color = f"C{index % 10}"
        if row.relative_l2 is None:
            continue
        if row.seconds_per_step is None:
            axis.axhline(row.relative_l2, color=color, linestyle="--", label=row.model)
            continue
        place = row.seconds_per_step, row.relative_l2
        axis.errorbar(*place, yerr=row.relative_l2_deviation, color=color, capsize=3)
        size = 400 * (row.parameters or 0) / max(1, largest)
        axis.scatter(*place, s=size, color=color, alpha=0.6)
        axis.annotate(row.model, place, (6, 6), textcoords="offset points", fontsize=11)
    axis.margins(0.15)  # room for the names
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("seconds per training step", fontsize=13)
    axis.set_ylabel("relative L2 error", fontsize=13)
    axis.grid(which="major", alpha=0.4)
    axis.grid(which="minor", alpha=0.15)
    if axis.get_legend_handles_labels()[1]:
        axis.legend(fontsize=11)
    axis.set_title(f"{title}\narea of a dot: parameters", fontsize=13)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def write_comparison(
    run: RunConfig,
    settings: dict[str, Any],
    records: Sequence[Record],
    draw: Callable[[Sequence[Row], str], dict[str, Figure]] = lambda rows, title: {},
) -> list[Row]:
    """Write the tables, plots and reports of a comparison.

    Args:
        run: The options shared by all runs, which are in subfolders
            `<model>-seed<seed>`.
        settings: The content of `settings.json`.
        records: Records of all runs.
        draw: Called as `draw(rows, title)`; returns further plots of the table by
            caption, which precede the cost plot.

    Returns:
        The table.
    """
    folder, benchmark = Path(str(run.folder)), run.benchmark
    figures = published_figures(run, settings)
    rows = summarize(records, figures)
    quantities = summarize_quantities(records)
    models = {row.model for row in rows}
    listed = [figure for figure in figures if figure.model in models]
    title = f"{benchmark.name}: {run.selection.data} {benchmark.sample}s"
    results = {
        "title": title,
        "settings": settings,
        "published": [asdict(figure) for figure in listed],
        "rows": [asdict(row) for row in rows],
        "quantities": [asdict(row) for row in quantities],
        "runs": list(records),
    }
    write_json(folder / "results.json", results)
    write_csv(folder / "results.csv", Row, rows)
    if quantities:
        write_csv(folder / "quantities.csv", QuantityRow, quantities)
    cost = plot_cost(rows, title)
    cost.savefig(folder / "cost.png", dpi=150)
    plots = {**draw(rows, title), "Error against cost": cost}
    tables = [table_cells(rows)]
    if quantities:
        tables.append(quantity_cells(quantities))
    sections = [
        Section(
            tables=tables,
            paragraphs=_notes(run, listed),
            pictures={text: _png(figure) for text, figure in plots.items()},
        ),
        Section(heading="Conditions", items=_facts(run, benchmark, settings, records)),
    ]
    text = render_markdown(title, sections)
    (folder / "report.md").write_text(text, encoding="utf-8")
    pictures = _pictures(folder, benchmark, records)
    predictions = Section(heading="Predictions", pictures=pictures)
    page = render_page(title, [*sections, predictions])
    (folder / "report.html").write_text(page, encoding="utf-8")
    return rows


def _facts(
    run: RunConfig,
    benchmark: Benchmark,
    settings: dict[str, Any],
    records: Sequence[Record],
) -> list[str]:
    """Return the conditions of the runs."""
    chosen = f"{run.selection.data} {benchmark.sample}s"
    budget = "the epochs of each recipe"
    if run.epochs is not None:
        budget = f"{run.epochs} epochs for each model"
    if run.seconds is not None:
        budget = f"{run.seconds:g} seconds of training for each model"
    if run.steps is not None:
        budget = f"{run.steps} steps for each model"
    finished = [record for record in records if "error" not in record]
    versions = {
        ", ".join(f"{name} {number}" for name, number in record["versions"].items())
        for record in finished
    }
    facts = {
        "data": f"{settings['num_train']} {chosen} to train on, "
        f"{settings['num_test']} to test on",
        "SHA-256 of the training split": settings["train_sha256"],
        "SHA-256 of the test split": settings["test_sha256"],
        "recipe": run.recipe,
        "budget": budget,
        "precision": run.precision,
        # More than one if the comparison was resumed on another machine.
        "machine": "; ".join(sorted({record["machine"] for record in finished})),
        "versions": "; ".join(sorted(versions)),
    }
    return [f"{name}: {value}" for name, value in facts.items()]


def _notes(run: RunConfig, published: Sequence[Published]) -> list[str]:
    """Return the sentences below the tables."""
    notes = [
        "Relative L2: mean over the test samples, then mean ± standard deviation over "
        "the seeds. Each run had its own process."
    ]
    if run.selection.data == "simulated":
        notes.append(
            "The data are simulated: the errors are not comparable to published ones."
        )
    # Sources disagree: list all of them here; the table has the oldest.
    for model in dict.fromkeys(figure.model for figure in published):
        matching = [figure for figure in published if figure.model == model]
        listed = "; ".join(f"{one.relative_l2:.4g} ({one.source})" for one in matching)
        notes.append(f"Published for {model}: {listed}.")
    return notes


def _pictures(
    folder: Path, benchmark: Benchmark, records: Sequence[Record]
) -> dict[str, bytes]:
    """Return the pictures of the first finished run of each model, by caption."""
    pictures: dict[str, bytes] = {}
    seen = set()
    for record in records:
        model, seed = record["model"], record["seed"]
        if "error" in record or model in seen:
            continue
        seen.add(model)
        run = folder / f"{model}-seed{seed}"
        for path in sorted(run.glob(f"{benchmark.picture}*.png")):
            caption = f"{model}, seed {seed}, {record['data']} {benchmark.sample}"
            pictures[f"{caption}: {path.stem}"] = path.read_bytes()
    return pictures
