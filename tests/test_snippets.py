"""Every example in README, docs and docstrings runs."""

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import torch_geometric_flare

from .snippets import blocks, run_page

ROOT = Path(__file__).parent.parent
PACKAGE = Path(torch_geometric_flare.__file__).parent


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


# Pages that train, simulate or read meshes for more than a few seconds.
LONG = {
    f"docs/guides/{name}.md"
    for name in (
        *("check_data", "conditions", "datasets"),
        *("own_data", "own_model", "unequal_graphs"),
    )
}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow) if page in LONG else page
        for page in PAGES
    ],
)
def test_page(page, tmp_path, monkeypatch):
    text = (ROOT / page).read_text(encoding="utf-8")
    run_page(text, str(ROOT / page), tmp_path, monkeypatch)


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
    assert list(blocks(page)) == [("a = 1\n", 1, None), ("b = a\n", 11, None)]


def test_a_block_with_a_title_is_a_module(tmp_path, monkeypatch):
    page = (
        '```python title="titled.py"\na = 1\n```\n'
        '```python title="titled.py"\nb = a + 1\n```\n'
        "```python\nimport titled\nassert titled.b == b == 2\n```\n"
    )
    assert [file for _, _, file in blocks(page)] == ["titled.py", "titled.py", None]
    run_page(page, "page", tmp_path, monkeypatch)
    with pytest.raises(AssertionError):
        run_page(page.replace("b == 2", "b == 3"), "page", tmp_path, monkeypatch)
