"""The report of a comparison: Markdown, one HTML file that needs no other, tables."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from torch_geometric_flare.datasets.records import write_json
from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.experiments.config import RunConfig
from torch_geometric_flare.experiments.isolated_run import Record
from torch_geometric_flare.experiments.page import Section, render_page
from torch_geometric_flare.experiments.published import Published
from torch_geometric_flare.experiments.run import published_figures
from torch_geometric_flare.experiments.tables import (
    QuantityRow,
    Row,
    quantity_cells,
    summarize,
    summarize_quantities,
    table_cells,
    to_markdown,
    write_csv,
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the pages show.

    Args:
        title: Heading; says whether the data are simulated.
        facts: What the figures depend on, by name.
        rows: The table.
        quantities: The table of the quantities; empty if the benchmark has none.
        notes: Sentences below the tables.
        pictures: Files of pictures by their captions.
    """

    title: str
    facts: Mapping[str, str]
    rows: Sequence[Row]
    quantities: Sequence[QuantityRow]
    notes: Sequence[str]
    pictures: Mapping[str, Path]


def plot_cost(rows: Sequence[Row], title: str) -> Figure:
    """Draw the error of each model against the seconds of a step.

    The area of a dot is proportional to the parameters, the bar is the deviation over
    the seeds, and a dashed line is a baseline.

    Args:
        rows: The table.
        title: Heading; says whether the data are simulated.

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


def to_markdown_page(report: Report) -> str:
    """Return the report in Markdown, without pictures.

    Args:
        report: What to show.
    """
    facts = "".join(f"- {name}: {value}\n" for name, value in report.facts.items())
    notes = "".join(f"\n{note}\n" for note in report.notes)
    table = to_markdown(*table_cells(report.rows))
    if report.quantities:
        table += "\n" + to_markdown(*quantity_cells(report.quantities))
    return f"# {report.title}\n\n{facts}\n{table}{notes}"


def to_html_page(report: Report, plots: Mapping[str, Figure]) -> str:
    """Return the report in HTML with all pictures inside.

    Args:
        report: What to show.
        plots: Plots of the table by their captions.
    """
    table = Section(
        tables=[
            table_cells(report.rows),
            *([quantity_cells(report.quantities)] if report.quantities else []),
        ],
        paragraphs=report.notes,
        pictures={text: _png(figure) for text, figure in plots.items()},
    )
    facts = Section(
        heading="What the figures depend on",
        items=[f"{name}: {value}" for name, value in report.facts.items()],
    )
    predictions = Section(
        heading="Predictions",
        pictures={text: path.read_bytes() for text, path in report.pictures.items()},
    )
    return render_page(report.title, [table, facts, predictions])


def _png(figure: Figure) -> bytes:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120)
    return drawn.getvalue()


def write_comparison(
    run: RunConfig,
    settings: dict[str, Any],
    records: Sequence[Record],
    draw: Callable[[Sequence[Row], str], dict[str, Figure]] = lambda rows, title: {},
) -> list[Row]:
    """Write table, plots and report.

    Args:
        run: What all runs share; they are in `<model>-seed<seed>` of its folder.
        settings: What `settings.json` holds.
        records: Of all runs.
        draw: Returns further figures of the table by their captions, which stand before
            that of the cost; called as `draw(rows, title)`.

    Returns:
        The table.
    """
    folder, benchmark = Path(str(run.folder)), run.benchmark
    figures = published_figures(run, settings)
    rows = summarize(records, figures)
    quantities = summarize_quantities(records)
    models = {row.model for row in rows}
    shown = [figure for figure in figures if figure.model in models]
    report = Report(
        title=f"{benchmark.name}: {run.selection.data} {benchmark.sample}s",
        facts=_facts(run, benchmark, settings, records),
        rows=rows,
        quantities=quantities,
        notes=_notes(run, shown),
        pictures=_pictures(folder, benchmark, records),
    )
    results = {
        "title": report.title,
        "settings": settings,
        "published": [asdict(figure) for figure in shown],
        "rows": [asdict(row) for row in rows],
        "quantities": [asdict(row) for row in quantities],
        "runs": list(records),
    }
    write_json(folder / "results.json", results)
    write_csv(folder / "results.csv", Row, rows)
    if quantities:
        write_csv(folder / "quantities.csv", QuantityRow, quantities)
    cost = plot_cost(rows, report.title)
    cost.savefig(folder / "cost.png", dpi=150)
    plots = {**draw(rows, report.title), "Error against cost": cost}
    (folder / "report.md").write_text(to_markdown_page(report), encoding="utf-8")
    (folder / "report.html").write_text(to_html_page(report, plots), encoding="utf-8")
    return rows


def _facts(
    run: RunConfig,
    benchmark: Benchmark,
    settings: dict[str, Any],
    records: Sequence[Record],
) -> dict[str, str]:
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
    return {
        "data": f"{settings['num_train']} {chosen} to train on, "
        f"{settings['num_test']} to test on",
        "SHA-256 of the training split": settings["train_sha256"],
        "SHA-256 of the test split": settings["test_sha256"],
        "recipe": run.recipe,
        "budget": budget,
        "precision": run.precision,
        # More than one where the comparison was carried on elsewhere.
        "machine": "; ".join(sorted({record["machine"] for record in finished})),
        "versions": "; ".join(sorted(versions)),
    }


def _notes(run: RunConfig, published: Sequence[Published]) -> list[str]:
    notes = [
        "Relative L2: mean over the test samples, then mean ± standard deviation over "
        "the seeds. Each run had its own process."
    ]
    if run.selection.data == "simulated":
        notes.append(
            "The data are simulated: no figure here may stand beside those of a paper."
        )
    # Sources disagree: all stand here, the oldest in the table as well.
    for model in dict.fromkeys(figure.model for figure in published):
        own = [figure for figure in published if figure.model == model]
        listed = "; ".join(f"{one.relative_l2:.4g} ({one.source})" for one in own)
        notes.append(f"Published for {model}: {listed}.")
    return notes


def _pictures(
    folder: Path, benchmark: Benchmark, records: Sequence[Record]
) -> dict[str, Path]:
    """Return the pictures of the first finished run of each model, by caption."""
    pictures: dict[str, Path] = {}
    seen = set()
    for record in records:
        model, seed = record["model"], record["seed"]
        if "error" in record or model in seen:
            continue
        seen.add(model)
        run = folder / f"{model}-seed{seed}"
        for path in sorted(run.glob(f"{benchmark.picture}*.png")):
            caption = f"{model}, seed {seed}, {record['data']} {benchmark.sample}"
            pictures[f"{caption}: {path.stem}"] = path
    return pictures
