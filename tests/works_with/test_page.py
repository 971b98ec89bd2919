"""Every row of `docs/works_with.md` has a test, and every test a row."""

import re
from pathlib import Path

import pytest

from . import test_files, test_lightning, test_pyg, test_torch  # noqa: F401
from .rows import TESTS, row

PAGE = Path(__file__).parent.parent.parent / "docs/works_with.md"


def rows_of(text):
    """The first column of each table, without the marks of code and links."""
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        _, rule, *lines = table.splitlines()
        assert re.fullmatch(r"[|\- :]+", rule), rule
        for line in lines:
            name = line.split("|")[1].strip()
            found.append(re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", name).replace("`", ""))
    return found


def test_rows_and_tests_are_the_same():
    rows = rows_of(PAGE.read_text(encoding="utf-8"))
    assert len(rows) == len(set(rows)) > 20
    assert sorted(set(rows) - set(TESTS)) == [], "rows without a test"
    assert sorted(set(TESTS) - set(rows)) == [], "tests without a row"


def test_rows_are_read_off_the_tables():
    text = (
        "| With | How |\n|---|---|\n| [`a.b`](c.md), `d` | e |\n\n| x | y |\n|--|--|\n"
    )
    assert rows_of(text) == ["a.b, d"]


def test_a_row_has_one_test():
    with pytest.raises(AssertionError, match="DataLoader"):
        row("Data, Batch, DataLoader")(None)
