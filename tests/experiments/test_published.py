import re
from pathlib import Path

import pytest

from torch_geometric_flare.experiments import (
    all_published,
    flare_paper,
    flare_plus_plus_paper,
    later_figures,
)

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks_physics.md"
COLUMNS = {
    "Elasticity": "elasticity",
    "Darcy flow": "darcy",
    "Airfoil": "airfoil",
    "Pipe": "pipe",
    "Cars": "drivaerml",
    "Printed parts (legacy)": "lpbf",
}


def values(figures):
    return {figure.model: figure.relative_l2 for figure in figures}


def test_figures_of_the_flare_paper():
    first = flare_paper("elasticity")[0]
    assert (first.model, first.relative_l2) == ("FLARE", 0.00338)
    assert "arXiv:2508.12594 v2" in first.source and "one seed" in first.source
    assert values(flare_paper("pipe")) == {
        "FLARE": 0.00285,
        "PerceiverIO": 0.00714,
        "GNOT": 0.00589,
        "LNO": 0.0081,
        "Transolver": 0.00487,
        "TransolverConv": 0.0039,
    }
    assert all("legacy metric" in figure.source for figure in flare_paper("lpbf"))


def test_figures_of_the_flare_plus_plus_paper():
    figures = flare_plus_plus_paper("drivaerml")
    assert all("arXiv:2608.11519" in figure.source for figure in figures)
    assert all("40,000 points" in figure.source for figure in figures)
    assert values(figures) == {
        "FLAREPP": 0.0604,
        "FLARE": 0.0722,
        "PerceiverIO": 0.248,
        "Set Transformer": 0.062,
        "GNOT": 0.115,
        "LNO": 0.146,
        "Transolver": 0.0739,
        "Transolver++": 0.0939,
        "Transolver-3": 0.0736,
    }


def test_later_figures():
    assert values(later_figures("darcy")) == {
        "FLAREPP": 0.0062,
        "FLARE": 0.0076,
        "Transformer": 0.0043,
        "Set Transformer": 0.0118,
        "Luna": 0.0084,
        "Transolver": 0.0104,
        "Transolver-3": 0.0103,
    }
    seeds = [f.model for f in later_figures("elasticity") if "ten seeds" in f.source]
    assert seeds == ["FLAREPP", "FLARE"]
    assert not any("ten seeds" in f.source for f in later_figures("pipe"))
    assert all("2026-09-25" in figure.source for figure in later_figures("airfoil"))


def test_sources_that_disagree_are_all_there():
    own = [f.relative_l2 for f in all_published("elasticity") if f.model == "FLARE"]
    assert own == [0.00338, 0.0064, 0.0071]


@pytest.mark.parametrize(
    "function", [flare_paper, flare_plus_plus_paper, later_figures, all_published]
)
def test_unknown_sets_are_refused(function):
    with pytest.raises(ValueError, match="shapenet.*elasticity"):
        function("shapenet")


def test_other_papers_have_no_printed_parts():
    assert flare_plus_plus_paper("lpbf") == later_figures("lpbf") == ()


@pytest.mark.parametrize(
    "function", [flare_paper, flare_plus_plus_paper, later_figures]
)
def test_the_page_has_the_same_figures(function):
    text = PAGE.read_text(encoding="utf-8")
    section = text.partition(f".experiments.{function.__name__}]")[2]
    lines = section.partition("\n### ")[0].splitlines()
    rows = [re.split(r" *\| *", line.strip("| ")) for line in lines if line[:1] == "|"]
    (_, *headings), _, *rows = rows
    for index, heading in enumerate(headings, start=1):
        found = {
            row[0].strip("`"): float(row[index]) / 100
            for row in rows
            if row[index] != "–"
        }
        assert found == pytest.approx(values(function(COLUMNS[heading])))
