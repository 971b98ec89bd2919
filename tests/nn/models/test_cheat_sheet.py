"""The page of all models says what the laws say."""

from pathlib import Path

import pytest

from torch_geometric_flare.nn import models

from .test_laws import (
    EXEMPT,
    EXEMPT_IN_ORDER,
    EXEMPT_WITH_EDGES,
    IN_ORDER,
    MODELS,
    WITH_EDGES,
    WITH_QUERIES,
)

PAGE = Path(__file__).parents[3] / "docs" / "cheat_sheet.md"
COLUMNS = {
    "Any sizes": "sizes",
    "Any order": "permutation",
    "Chunks": "chunks",
    "Processes": "group",
    "File to file": "stream",
}


def rows():
    table = PAGE.read_text("utf-8").partition("## Operators")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    header, _, *body = [
        [cell.strip() for cell in x.strip("|").split("|")] for x in lines
    ]
    for cells in body:
        name = cells[0].replace("`", "").replace(" with grid", " on a grid")
        yield name, dict(zip(header, cells, strict=True))


def obeys(name, law):
    """Whether the tests hold a model to a law."""
    if name in MODELS:
        return name not in EXEMPT[law]
    if name in WITH_EDGES:
        return law in ("sizes", "permutation")
    if name in WITH_QUERIES:
        return True
    return law == "sizes" and name not in EXEMPT_IN_ORDER["sizes"]


def test_every_model_has_a_row():
    assert {name for name, _ in rows()} - {
        "GNOT on a grid",
        "Transolver on a grid",
    } == set(models.__all__)
    assert set(EXEMPT_WITH_EDGES) == {"chunk_size", "group"}
    assert {*MODELS, *WITH_EDGES, *WITH_QUERIES, *IN_ORDER} >= {
        name for name, _ in rows()
    }


@pytest.mark.parametrize(("name", "row"), list(rows()), ids=lambda x: str(x)[:20])
def test_a_row_says_what_the_laws_say(name, row):
    for column, law in COLUMNS.items():
        assert row[column] == ("yes" if obeys(name, law) else "no"), column
