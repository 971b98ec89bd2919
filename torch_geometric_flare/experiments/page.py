"""Reports as self-contained HTML files and as Markdown."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jinja2 import Environment, StrictUndefined

from torch_geometric_flare.visualization.document import html_document

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Headings, and the cells of each row."""

_STYLE = """\
body { font-family: sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ccc; padding: 0.3em 0.8em; text-align: %s; }
th:first-child, td:first-child { text-align: left; }
td { vertical-align: top; }
img { max-width: 100%%; }
"""
_BODY = """\
{% for section in sections %}
{% if section.heading %}
<h2>{{ section.heading }}</h2>
{% endif %}
{% for headings, lines in section.tables %}
<table>
<tr>{% for cell in headings %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for line in lines %}
<tr>{% for cell in line %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</table>
{% endfor %}
{% for text in section.paragraphs %}
<p>{{ text }}</p>
{% endfor %}
{% if section.items %}
<ul>
{% for text in section.items %}
<li>{{ text }}</li>
{% endfor %}
</ul>
{% endif %}
{% for caption, png in section.pictures.items() %}
<figure><img alt="{{ caption }}" src="data:image/png;base64,{{ png | base64 }}">
<figcaption>{{ caption }}</figcaption></figure>
{% endfor %}
{% endfor %}
"""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of a page; empty parts are omitted.

    Args:
        heading: Heading of the section.
        tables: Tables, each with headings and cells.
        paragraphs: Paragraphs below the tables.
        items: Items of a list.
        pictures: PNG files by caption.
    """

    heading: str = ""
    tables: Sequence[Table] = ()
    paragraphs: Sequence[str] = ()
    items: Sequence[str] = ()
    pictures: Mapping[str, bytes] = field(default_factory=dict)


def render_page(title: str, sections: Sequence[Section], align: str = "right") -> str:
    """Return a page with all pictures embedded.

    Args:
        title: Title of the page.
        sections: Sections of the page.
        align: Alignment of the columns after the first: `"left"` or `"right"`.

    Returns:
        HTML, to be saved in UTF-8. All text is escaped.
    """
    environment = Environment(
        autoescape=True,
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["base64"] = lambda png: base64.b64encode(png).decode()
    body = environment.from_string(_BODY).render(sections=sections)
    return html_document(title, _STYLE % align, body)


def render_markdown(title: str, sections: Sequence[Section]) -> str:
    """Return a page in Markdown, without pictures.

    Args:
        title: Title of the page.
        sections: Sections of the page.
    """
    parts = [f"# {title}"]
    for section in sections:
        parts += [f"## {section.heading}"] if section.heading else []
        for headings, rows in section.tables:
            rule = ["---", *("---:" for _ in headings[1:])]
            escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
            lines = [" | ".join(line) for line in (headings, rule, *escaped)]
            parts.append("\n".join(f"| {line} |" for line in lines))
        parts += section.paragraphs
        if section.items:
            parts.append("\n".join(f"- {item}" for item in section.items))
    return "\n\n".join(parts) + "\n"
