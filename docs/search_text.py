"""An MkDocs hook: the search shows formulas as text, not as TeX.

The search finds a page's own text, in which formulas stand as TeX until the browser
typesets them. Here they are kept out of the index, and those within a line have a
hidden twin in plain characters, so that sentences in the results have no holes.
"""

import re
from html import escape, unescape
from typing import Any

_FORMULA = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)
_SYMBOLS = {
    "alpha": "α",
    "approx": "≈",
    "cdot": "·",
    "cdots": "…",
    "dots": "…",
    "ge": "≥",
    "hat": "",
    "in": "∈",
    "infty": "∞",
    "lambda": "λ",
    "ldots": "…",
    "le": "≤",
    "left": "",
    "log": "log",
    "lVert": "‖",
    "mathbb": "",
    "mathbf": "",
    "mathcal": "",
    "mathrm": "",
    "mu": "μ",
    "nabla": "∇",
    "nu": "ν",
    "omega": "ω",
    "operatorname": "",
    "partial": "∂",
    "pi": "π",
    "rho": "ρ",
    "right": "",
    "rVert": "‖",
    "sigma": "σ",
    "sqrt": "√",
    "sum": "∑",
    "tau": "τ",
    "text": "",
    "tilde": "",
    "times": "×",
    "to": "→",
    "top": "T",
    "varphi": "φ",
}


def on_page_content(html: str, **kwargs: Any) -> str:
    """Mark formulas; called by MkDocs when a page has become HTML."""
    return _FORMULA.sub(_mark, html)


def _mark(match: re.Match[str]) -> str:
    tag, tex = match.groups()
    marked = f'<{tag} class="arithmatex" data-search-exclude>{tex}</{tag}>'
    if tag == "div":
        return marked
    return f"{marked}<span hidden>{escape(plain_text(unescape(tex)))}</span>"


def plain_text(tex: str) -> str:
    r"""Return a formula in plain characters, such as `O(NM)` of `\(O(NM)\)`."""
    text = re.sub(r"^\\[(\[]|\\[)\]]$", "", tex.strip())
    text = re.sub(r"\\d?frac\{([^{}]*)\}\{([^{}]*)\}", r"\1/\2", text)
    text = re.sub(r"\\([A-Za-z]+) ?", lambda m: _SYMBOLS.get(m[1], m[1]), text)
    text = re.sub(r"\\[,;:! ]|~", " ", text)
    text = re.sub(r"[{}\\$]", "", text)
    return " ".join(text.split())
