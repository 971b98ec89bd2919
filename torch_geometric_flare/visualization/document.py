"""The frame of an HTML page."""

from html import escape


def html_document(title: str, style: str, body: str) -> str:
    """Return a self-contained page whose first heading is its title.

    Args:
        title: The title, which is escaped.
        style: CSS rules.
        body: HTML below the heading.

    Returns:
        HTML, to be saved in UTF-8.
    """
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{body}
</body>
</html>
"""
