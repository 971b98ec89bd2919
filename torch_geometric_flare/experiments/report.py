"""The pages of a comparison: Markdown, and one HTML file that needs no other."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from torch_geometric_flare.experiments.quantity_table import (
    QuantityRow,
    quantity_cells,
)
from torch_geometric_flare.experiments.summary import Row, table_cells, to_markdown

_STYLE = """
body { font-family: sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; }
table { border-collapse: collapse; margin-bottom: 1em; }
th, td { border-bottom: 1px solid #ccc; padding: 0.3em 0.8em; text-align: right; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; }
"""


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


def to_html_page(report: Report, plot: Figure) -> str:
    """Return the report in HTML with all pictures inside.

    Args:
        report: What to show.
        plot: The plot of `plot_cost`.
    """
    drawn = io.BytesIO()
    plot.savefig(drawn, format="png", dpi=120)
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        f"<title>{html.escape(report.title)}</title><style>{_STYLE}</style></head>",
        f"<body><h1>{html.escape(report.title)}</h1>",
        _table(*table_cells(report.rows)),
        _table(*quantity_cells(report.quantities)) if report.quantities else "",
        *(f"<p>{html.escape(note)}</p>" for note in report.notes),
        _image("Error against cost", drawn.getvalue()),
        "<h2>What the figures depend on</h2><ul>",
        *(
            f"<li>{html.escape(name)}: {html.escape(value)}</li>"
            for name, value in report.facts.items()
        ),
        "</ul><h2>Predictions</h2>",
        *(_image(text, path.read_bytes()) for text, path in report.pictures.items()),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _table(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    lines = [_line("th", headings), *(_line("td", line) for line in cells)]
    return "\n".join(["<table>", *lines, "</table>"])


def _line(tag: str, cells: Sequence[str]) -> str:
    inside = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
    return f"<tr>{inside}</tr>"


def _image(caption: str, png: bytes) -> str:
    text = html.escape(caption)
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f'<figure><img alt="{text}" src="{source}"><figcaption>{text}</figcaption>\
</figure>'
