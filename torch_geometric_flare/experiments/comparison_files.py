"""The files that a comparison writes at its end."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch_geometric_flare.datasets.records import write_json
from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.experiments.contest import Contest
from torch_geometric_flare.experiments.own_process import Record
from torch_geometric_flare.experiments.published import Published
from torch_geometric_flare.experiments.quantity_table import (
    QuantityRow,
    summarize_quantities,
)
from torch_geometric_flare.experiments.report import (
    Report,
    plot_cost,
    to_html_page,
    to_markdown_page,
)
from torch_geometric_flare.experiments.run import published_figures
from torch_geometric_flare.experiments.summary import Row, summarize, write_csv


def write_comparison(
    folder: Path,
    contest: Contest,
    benchmark: Benchmark,
    settings: dict[str, Any],
    records: Sequence[Record],
) -> list[Row]:
    """Write table, plot and report.

    Args:
        folder: Where to write; the runs are in `<model>-seed<seed>` there.
        contest: Data and budget.
        benchmark: The problem.
        settings: What `settings.json` holds.
        records: Of all runs.

    Returns:
        The table.
    """
    figures = published_figures(
        benchmark,
        contest.recipe,
        contest.selection,
        contest.epochs,
        settings,
        contest.seconds,
        contest.optimizer,
        contest.init,
    )
    rows = summarize(records, figures)
    quantities = summarize_quantities(records)
    models = {row.model for row in rows}
    shown = [figure for figure in figures if figure.model in models]
    report = Report(
        title=f"{benchmark.name}: {contest.selection.data} {benchmark.sample}s",
        facts=_facts(contest, benchmark, settings, records),
        rows=rows,
        quantities=quantities,
        notes=_notes(contest, shown),
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
    plot = plot_cost(rows, report.title)
    plot.savefig(folder / "cost.png", dpi=150)
    (folder / "report.md").write_text(to_markdown_page(report), encoding="utf-8")
    (folder / "report.html").write_text(to_html_page(report, plot), encoding="utf-8")
    return rows


def _facts(
    contest: Contest,
    benchmark: Benchmark,
    settings: dict[str, Any],
    records: Sequence[Record],
) -> dict[str, str]:
    chosen = f"{contest.selection.data} {benchmark.sample}s"
    budget = "the epochs of each recipe"
    if contest.epochs is not None:
        budget = f"{contest.epochs} epochs for each model"
    if contest.seconds is not None:
        budget = f"{contest.seconds:g} seconds of training for each model"
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
        "recipe": contest.recipe,
        "budget": budget,
        "precision": contest.precision,
        # More than one where the comparison was carried on elsewhere.
        "machine": "; ".join(sorted({record["machine"] for record in finished})),
        "versions": "; ".join(sorted(versions)),
    }


def _notes(contest: Contest, published: Sequence[Published]) -> list[str]:
    notes = [
        "Relative L2: mean over the test samples, then mean ± standard deviation over "
        "the seeds. Each run had a process of its own."
    ]
    if contest.selection.data == "simulated":
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
