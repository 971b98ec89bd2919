"""Reports as one HTML file that needs no other."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jinja2 import Environment, StrictUndefined

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""The headings and the cells of each line."""

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font-family: sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ccc; padding: 0.3em 0.8em; text-align: {{ align }}; }
th:first-child, td:first-child { text-align: left; }
td { vertical-align: top; }
img { max-width: 100%; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
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
</body>
</html>
"""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page; what is empty is left out.

    Args:
        heading: Heading of the part.
        tables: Tables.
        paragraphs: Sentences below the tables.
        items: Lines of a list.
        pictures: PNG files by their captions.
    """

    heading: str = ""
    tables: Sequence[Table] = ()
    paragraphs: Sequence[str] = ()
    items: Sequence[str] = ()
    pictures: Mapping[str, bytes] = field(default_factory=dict)


def render_page(title: str, sections: Sequence[Section], align: str = "right") -> str:
    """Return a page with all pictures inside.

    Args:
        title: Heading of the page.
        sections: Its parts.
        align: Alignment of the columns after the first: `"left"` or `"right"`.

    Returns:
        HTML, to be written to a file in UTF-8. All text is escaped.
    """
    environment = Environment(
        autoescape=True,
        keep_trailing_newline=True,
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["base64"] = lambda png: base64.b64encode(png).decode()
    return environment.from_string(_PAGE).render(
        title=title, sections=sections, align=align
    )
