"""An MkDocs hook: notebooks become pages, without being run.

The page has the notebook's text, code, stored output and pictures, and a link to the
notebook itself, which is copied beside it. `make notebooks` runs them again.
"""

import json
from pathlib import Path
from textwrap import wrap
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for each notebook; called by MkDocs when it has found all files."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            notebook = json.loads(Path(str(file.abs_src_path)).read_text("utf-8"))
            uri = file.src_uri.removesuffix(".ipynb") + ".md"
            page = markdown(notebook, Path(file.src_uri).name)
            files.append(File.generated(config, uri, content=page))
    return files


def _wrapped(line: str) -> list[str]:
    """Return a line of output in pieces that fit on a page."""
    return wrap(line, 80, subsequent_indent="    ", drop_whitespace=False) or [""]


def markdown(notebook: dict[str, Any], name: str) -> str:
    """Return a notebook as a page that links to the file of that name."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                picture = "".join("".join(data["image/png"]).split())
                parts.append(f"![](data:image/png;base64,{picture})")
                continue
            text = "".join(output.get("text") or data.get("text/plain", "")).rstrip()
            lines = [part for line in text.splitlines() for part in _wrapped(line)]
            parts.append("\n".join(["```text", *lines, "```"]))
    title, _, rest = parts[0].partition("\n")
    link = f"[This page as a notebook]({name})"
    return "\n\n".join([title, rest.strip(), link, *parts[1:]]) + "\n"
