"""The built documentation: complete, offline, and with its formulas marked up."""

import importlib
import os
import pkgutil
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import torch_geometric_flare

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
    for path in (ROOT / "docs").rglob("*.md")
    if path.name != "README.md"
)
SUBPACKAGES = [
    module.name
    for module in pkgutil.iter_modules(torch_geometric_flare.__path__)
    if not module.name.startswith("_")
]


class Page(HTMLParser):
    """Anchors of a page, what it fetches, and its prose."""

    def __init__(self, html):
        super().__init__()
        self.anchors, self.fetched, self.prose = set(), [], []
        self.formulas = 0
        self._quiet = []  # open elements whose text is no prose
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        classes = (attributes.get("class") or "").split()
        self.anchors.add(attributes.get("id"))
        self.formulas += "arithmatex" in classes
        if tag == "link" and attributes.get("rel") in ("prev", "next", "canonical"):
            return
        if tag != "a":
            self.fetched += [attributes.get("src"), attributes.get("data")]
            self.fetched += [attributes.get("srcset"), attributes.get("style")]
            self.fetched.append(attributes.get("href"))
        quiet = tag in ("code", "pre", "script", "style") or "arithmatex" in classes
        if self._quiet:
            # Only elements of the same name can close what is open.
            if tag == self._quiet[0]:
                self._quiet.append(tag)
        elif quiet:
            self._quiet.append(tag)

    def handle_endtag(self, tag):
        if self._quiet and tag == self._quiet[-1]:
            self._quiet.pop()

    def handle_data(self, data):
        if not self._quiet:
            self.prose.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return folder


def read(site, name):
    return Page((site / name).read_text(encoding="utf-8"))


def public_names(module):
    if hasattr(module, "__all__"):
        return module.__all__
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", module.__name__) == module.__name__
        and (name.isupper() or callable(value))
    ]


@pytest.mark.parametrize("subpackage", SUBPACKAGES)
def test_page_of_a_subpackage_has_all_its_names(site, subpackage):
    module = importlib.import_module(f"torch_geometric_flare.{subpackage}")
    anchors = read(site, f"api/{subpackage}.html").anchors
    wanted = {f"{module.__name__}.{name}" for name in public_names(module)}
    assert wanted and wanted <= anchors, sorted(wanted - anchors)


def test_names_of_the_package_are_on_some_page(site):
    anchors = set().union(
        *(read(site, page).anchors for page in PAGES if page.startswith("api/"))
    )
    documented = {str(anchor).rpartition(".")[2] for anchor in anchors}
    assert set(torch_geometric_flare.__all__) <= documented


@pytest.mark.parametrize("page", PAGES)
def test_page_fetches_nothing_from_elsewhere(site, page):
    remote = re.compile(r"(https?:)?//")
    fetched = [source for source in read(site, page).fetched if source]
    assert fetched
    assert [source for source in fetched if remote.search(source)] == []


def test_styles_fetch_nothing_from_elsewhere(site):
    styles = list(site.rglob("*.css"))
    assert styles
    for style in styles:
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"(?:url\(|@import)[\s\"']*(?:https?:)?//", text)


@pytest.mark.parametrize("page", PAGES)
def test_every_formula_is_marked_up(site, page):
    stray = [text for text in read(site, page).prose if "$" in text]
    assert stray == [], "a display formula needs a paragraph of its own"


@pytest.mark.parametrize("page", ["theory.html", "api/metrics.html", "api/nn.html"])
def test_formulas_are_there(site, page):
    assert read(site, page).formulas > 5


def test_formulas_are_typeset_by_files_of_the_site(site):
    html = (site / "theory.html").read_text(encoding="utf-8")
    config, script = (
        html.index(f'<script src="javascripts/{name}"')
        for name in ("mathjax.js", "tex-svg.js")
    )
    assert config < script  # the configuration is read when MathJax starts
    assert (site / "javascripts/tex-svg.js").stat().st_size > 1e6
    assert (site / "javascripts/LICENSE-MathJax.txt").exists()
