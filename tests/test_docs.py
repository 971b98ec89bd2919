"""The built documentation: complete, offline, and with its formulas marked up."""

import importlib
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import torch_geometric_flare

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
    for path in (ROOT / "docs").rglob("*")
    if path.suffix in (".md", ".ipynb") and path.name != "README.md"
)
SUBPACKAGES = [
    module.name
    for module in pkgutil.iter_modules(torch_geometric_flare.__path__)
    if not module.name.startswith("_")
]


CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-headless-shell", "chrome"))),
    None,
)
COLUMNS = 88


class Contents(HTMLParser):
    """The entries of a page's table of contents, as (link, text)."""

    def __init__(self, html):
        super().__init__()
        self.entries = []
        self._depth, self._open = 0, False
        # The theme has it twice, for narrow windows and for wide ones: take the latter.
        self.feed(html[html.index("md-sidebar--secondary") :])

    def handle_starttag(self, tag, attrs):
        if tag == "nav":
            self._depth += 1
        if tag == "a" and self._depth:
            self._open = True
            self.entries.append((dict(attrs).get("href"), ""))

    def handle_endtag(self, tag):
        if tag == "nav":
            self._depth -= 1
        self._open = self._open and tag != "a"

    def handle_data(self, data):
        if self._open:
            link, text = self.entries[-1]
            self.entries[-1] = (link, (text + data).strip())


class Page(HTMLParser):
    """Anchors of a page, what it fetches, its prose, and its blocks of code."""

    def __init__(self, html):
        super().__init__()
        self.anchors, self.fetched, self.prose = set(), [], []
        self.images, self.links, self.code = [], [], []
        self.formulas = 0
        self._quiet = []  # open elements whose text is not prose
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        classes = (attributes.get("class") or "").split()
        self.anchors.add(attributes.get("id"))
        self.formulas += "arithmatex" in classes
        if tag == "img":
            self.images.append(attributes.get("src"))
        if tag == "a":
            self.links.append(attributes.get("href"))
        if tag == "pre":
            self.code.append("")
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
        if self._quiet[:1] == ["pre"]:
            self.code[-1] += data


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
    # A large one has a page for each family, in a folder of its name.
    own = (f"api/{subpackage}.html", f"api/{subpackage}/")
    anchors = set().union(
        *(read(site, page).anchors for page in PAGES if page.startswith(own))
    )
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
    # A picture within the page is data, whose letters may be slashes.
    elsewhere = [s for s in fetched if not s.startswith("data:") and remote.search(s)]
    assert elsewhere == []


def test_styles_fetch_nothing_from_elsewhere(site):
    styles = list(site.rglob("*.css"))
    assert styles
    for style in styles:
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"(?:url\(|@import)[\s\"']*(?:https?:)?//", text)


@pytest.mark.parametrize("page", PAGES)
def test_every_formula_is_marked_up(site, page):
    stray = [text for text in read(site, page).prose if "$" in text]
    assert stray == [], "a display formula needs its own paragraph"


@pytest.mark.parametrize(
    "page", ["theory.html", "api/metrics.html", "api/nn/conv.html"]
)
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


@pytest.mark.parametrize("page", PAGES)
def test_no_entry_of_the_contents_is_doubled(site, page):
    entries = Contents((site / page).read_text(encoding="utf-8")).entries
    links = [link for link, _ in entries]
    assert len(links) == len(set(links)), links
    # A function below the module of its name, as in `fit.fit`.
    nested = [link for link in links if re.search(r"\.(\w+)\.\1$", link or "")]
    assert nested == []


def test_contents_are_read_from_the_page(site):
    html = (site / "api/training.html").read_text(encoding="utf-8")
    entries = Contents(html).entries
    assert ("#torch_geometric_flare.training.fit", "fit") in entries
    assert len(entries) > 20


@pytest.mark.parametrize("page", PAGES)
def test_code_is_not_wider_than_its_place(site, page):
    lines = "\n".join(read(site, page).code).splitlines()
    assert [line for line in lines if len(line) > COLUMNS] == []


def test_pages_on_the_disk_have_all_that_a_search_needs(site):
    """The index is a script, not a request; a frame stands in for a worker."""
    index = (site / "search/search_index.js").read_text(encoding="utf-8")
    prefix, _, content = index.partition("=")
    assert prefix.strip() == "var __index"
    places = {entry["location"] for entry in json.loads(content)["docs"]}
    assert set(PAGES) <= {place.partition("#")[0] for place in places}
    for page in PAGES:
        html = (site / page).read_text(encoding="utf-8")
        assert re.search(r'<script src="[./]*javascripts/iframe-worker.js"', html)
    assert (site / "javascripts/LICENSE-iframe-worker.txt").exists()


def test_the_search_shows_no_tex(site):
    """Neither TeX nor a hole where a formula stands."""
    index = (site / "search/search_index.js").read_text(encoding="utf-8")
    texts = [entry["text"] for entry in json.loads(index.partition("=")[2])["docs"]]
    assert [text for text in texts if re.search(r"\\[\[(]|\\[a-z]+\{", text)] == []
    assert any("keep to O(N M)" in text or "O(NM)" in text for text in texts)


@pytest.mark.parametrize(
    ("tex", "expected"),
    [
        (r"\(O(NM + M^2)\)", "O(NM + M^2)"),
        (r"\([N, C]\)", "[N, C]"),
        (r"\(\frac{1}{2} \rho U^2\)", "1/2 ρU^2"),
        (r"\(\mathrm{softmax}_G(W_a x_n)\)", "softmax_G(W_a x_n)"),
        (r"\(-\nabla\cdot(a\,\nabla u)\)", "-∇·(a ∇u)"),
        (r"\(\lceil (m + 1)\,\ell \rceil\)", "⌈(m + 1) ℓ⌉"),
        (r"\(\gamma(u) \neq \tfrac{1}{2}\max_i \bar{x}_i\)", "γ(u) ≠1/2max_i x_i"),
    ],
)
def test_a_formula_in_plain_characters(monkeypatch, tex, expected):
    monkeypatch.syspath_prepend(ROOT / "docs")
    monkeypatch.delitem(sys.modules, "search_text", raising=False)
    from search_text import plain_text

    assert plain_text(tex) == expected


def test_titles_of_the_navigation_are_those_of_the_pages(site):
    for page in PAGES:
        html = (site / page).read_text(encoding="utf-8")
        (heading,) = re.findall(r"<h1[^>]*>(.*?)(?:<a class=|</h1>)", html, re.DOTALL)
        active = re.search(
            r'class="md-nav__link md-nav__link--active">\s*'
            r'<span class="md-ellipsis">(.*?)</span>',
            html,
            re.DOTALL,
        )
        title = re.sub(r"<[^>]*>", "", active[1] if active else "").strip()
        assert title == re.sub(r"<[^>]*>", "", heading).strip(), page


PROBE = """
<script>
window.addEventListener("load", async () => {
  await MathJax.startup.promise;
  const all = query => [...document.querySelectorAll(".md-content " + query)];
  const height = document.documentElement.scrollHeight;
  document.title = JSON.stringify({
    formulas: all("div.arithmatex svg").map(f => f.getBoundingClientRect().width),
    names: all("td code").map(code => code.getClientRects().length),
    tables: all(".md-typeset__scrollwrap").map(t => t.scrollWidth - t.clientWidth),
    height,
  });
});
</script>
"""


def measure(site, page, width):
    """Return sizes of a page's parts in a window of this width, at least 500 pixels."""
    html = (site / page).read_text(encoding="utf-8")
    probe = site / page.replace(".html", "_probe.html")
    probe.write_text(html.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --dump-dom --virtual-time-budget=20000"
    )
    command = [CHROMIUM, *flags.split(), f"--window-size={width},900", probe.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    probe.unlink()
    (title,) = re.findall("<title>(.*?)</title>", result.stdout[:9999], re.DOTALL)
    return json.loads(title)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [600, 1400])
def test_display_formulas_are_visible(site, width):
    widths = measure(site, "theory.html", width)["formulas"]
    assert len(widths) > 5 and min(widths) > 50


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize(
    "page", ["cheat_sheet.html", "comparison.html", "benchmarks_physics.html"]
)
def test_tables_fit_and_names_in_them_stay_in_one_piece(site, page):
    sizes = measure(site, page, 1400)
    assert max(sizes["tables"]) <= 0
    assert set(sizes["names"]) == {1}


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("api/nn")])
def test_pages_of_nn_are_not_endless(site, page):
    assert measure(site, page, 1400)["height"] < 20_000


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("page", ["index.html", "guides/training.html"])
def test_search_on_the_disk_finds_a_name(site, page):
    """The query is in the address, as in a link that the search box shares."""
    result = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=20000",
            "--dump-dom",
            (site / page).as_uri() + "?q=moment_coefficients",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.findall(
        r'<a href="([^"]*)" class="md-search-result__link', result.stdout
    )
    assert any("api/metrics.html" in link for link in found), result.stderr


def test_home_shows_a_picture_and_says_how_to_cite_and_contribute(site):
    home = read(site, "index.html")
    pictures = [source for source in home.images if source.startswith("assets/")]
    assert pictures and all((site / source).exists() for source in pictures)
    assert {"citing.html", "contributing.html"} <= set(home.links)


def test_the_citation_is_that_of_the_repository(site):
    (entries,) = read(site, "citing.html").code
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    (version,) = re.findall(r"^version: (\S+)$", citation, re.MULTILINE)
    (title,) = re.findall(r'title: "(FLARE.*)"', citation)
    for part in (version, title, "arXiv:2508.12594"):
        assert part in entries and part in citation


def test_contributing_is_that_of_the_repository(site):
    links = read(site, "contributing.html").links
    assert {"guides/own_model.html", "guides/datasets.html"} <= set(links)
    assert "<h2" in (site / "contributing.html").read_text(encoding="utf-8")
