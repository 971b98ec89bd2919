"""An MkDocs hook: the search shows formulas as text, not as TeX.

The search finds a page's own text, in which formulas stand as TeX until the browser
typesets them. This hook keeps them out of the index and gives those within a line a
hidden copy in plain characters, so that sentences in the results have no holes.
"""

import re
from html import escape, unescape
from html.entities import html5
from typing import Any

_FORMULA = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)
# Commands that the names of characters in HTML lack or use for another character.
_SYMBOLS = {
    "cdot": "·",
    "cdots": "…",
    "circ": "∘",
    "dots": "…",
    "infty": "∞",
    "ldots": "…",
    "lVert": "‖",
    "neq": "≠",
    "partial": "∂",
    "quad": " ",
    "qquad": " ",
    "rVert": "‖",
    "sqrt": "√",
    "to": "→",
    "top": "T",
    "varphi": "φ",
}
# Commands of the appearance.
_SILENT = re.compile(
    "bar|hat|tilde|left|right|[bB]ig[lr]?|math[a-z]+|operatorname|text|underbrace"
)


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
    text = re.sub(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r"\1/\2", text)
    text = re.sub(r"\\([A-Za-z]+) ?", lambda match: _character(match[1]), text)
    text = re.sub(r"\\[,;:! ]|~", " ", text)
    text = re.sub(r"[{}\\$]", "", text)
    return " ".join(text.split())


def _character(command: str) -> str:
    """Return the character of a command, or its name, as of `max`."""
    if _SILENT.fullmatch(command):
        return ""
    return _SYMBOLS.get(command) or html5.get(f"{command};", command)
