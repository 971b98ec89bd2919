"""Every example in README, docs and docstrings runs."""

import doctest
import importlib
import re
import textwrap
from pathlib import Path

import pytest
import torch

import torch_geometric_flare

ROOT = Path(__file__).parent.parent
PACKAGE = Path(torch_geometric_flare.__file__).parent

FENCE = re.compile(
    r"(?P<skip><!-- no-run: [^\n]+ -->\n\s*)?"
    r"^(?P<indent> *)```python[^\n]*\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


def blocks(text):
    """Code and first line of each block that is to run."""
    for match in FENCE.finditer(text):
        if match["skip"] is None:
            line = text.count("\n", 0, match.start("code"))
            yield textwrap.dedent(match["code"]), line


def names(paths, root):
    return sorted(path.relative_to(root).as_posix() for path in paths)


PAGES = names(
    (
        path
        for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
        if any(blocks(path.read_text(encoding="utf-8")))
    ),
    ROOT,
)
MODULES = names(
    (path for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text("utf-8")),
    PACKAGE,
)


@pytest.mark.parametrize("page", PAGES)
def test_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "snippet"}
    for code, line in blocks((ROOT / page).read_text(encoding="utf-8")):
        # Empty lines in front let a traceback name the line of the page.
        exec(compile("\n" * line + code, str(ROOT / page), "exec"), namespace)


@pytest.mark.parametrize("path", MODULES)
def test_docstrings(path):
    dotted = Path(path).with_suffix("").as_posix().replace("/", ".")
    module = importlib.import_module(f"torch_geometric_flare.{dotted}")
    public = {
        name: getattr(torch_geometric_flare, name)
        for name in torch_geometric_flare.__all__
    }
    result = doctest.testmod(module, extraglobs={"torch": torch, **public})
    assert result.attempted > 0
    assert result.failed == 0


def test_blocks_share_a_page_and_may_be_skipped():
    page = (
        "```python\na = 1\n```\ntext\n"
        "<!-- no-run: needs a licence -->\n```python\nraise ValueError\n```\n"
        "- item\n\n    ```python\n    b = a\n    ```\n"
    )
    assert list(blocks(page)) == [("a = 1\n", 1), ("b = a\n", 11)]
