import csv

import pytest

from torch_geometric_flare.experiments.page import Section, render_markdown
from torch_geometric_flare.experiments.tables import (
    QuantityRow,
    quantity_cells,
    summarize_quantities,
    write_csv,
)


def record(model, error, r2, rank):
    drag = {
        "mean_absolute_error": error,
        "absolute_error_deviation": 0.1,
        "largest_absolute_error": 2 * error,
        "worst_sample": 0,
        "mean_absolute_error_of_training_mean": 0.0101,
        "r2": r2,
        "rank_correlation": rank,
    }
    lift = dict.fromkeys(drag)  # of samples without normals
    return {
        "model": model,
        **{f"drag_coefficient_{name}": value for name, value in drag.items()},
        **{f"lift_coefficient_{name}": value for name, value in lift.items()},
    }


RECORDS = [
    record("FLARE", 0.008, 0.5, 0.6),
    record("FLARE", 0.010, -0.1, 0.8),
    record("LNO", 0.012, None, None),
    {"model": "LNO", "error": "the process ended"},
]


def test_a_row_per_model_and_the_training_mean():
    flare, lno, mean = summarize_quantities(RECORDS)
    assert (flare.quantity, flare.model, flare.runs) == ("drag_coefficient", "FLARE", 2)
    assert flare.mean_absolute_error == pytest.approx(0.009)
    assert flare.mean_absolute_error_deviation == pytest.approx(0.002 / 2**0.5)
    assert flare.r2 == pytest.approx(0.2) and flare.rank_correlation == 0.7
    assert lno == QuantityRow(
        quantity="drag_coefficient", model="LNO", runs=1, mean_absolute_error=0.012
    )
    assert mean.mean_absolute_error == 0.0101 and mean.runs == 0
    assert mean.r2 is mean.rank_correlation is None


def test_nothing_without_quantities_or_finished_runs():
    assert summarize_quantities([{"model": "FLARE", "relative_l2": 0.5}]) == []
    assert summarize_quantities(RECORDS[3:]) == []


def test_the_table_stands_in_the_files(tmp_path):
    rows = summarize_quantities(RECORDS)
    headings, cells = quantity_cells(rows)
    assert headings[3:] == ["R²", "Rank correlation"]
    assert cells[0] == ["drag coefficient", "FLARE", "0.00900 ± 0.0014", "0.20", "0.70"]
    assert cells[1][2:] == ["0.0120", "", ""]
    assert cells[2][1:] == ["mean of the training samples", "0.0101", "", ""]
    page = render_markdown("t", [Section(tables=[(headings, cells)])])
    assert "| 0.00900 ± 0.0014 | 0.20 | 0.70 |" in page
    path = tmp_path / "quantities.csv"
    write_csv(path, QuantityRow, rows)
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert lines[1]["model"] == "LNO" and lines[1]["r2"] == ""
    assert float(lines[0]["mean_absolute_error"]) == pytest.approx(0.009)
