"""The Python blocks of a page, and a way to run them."""

import re
import sys
import textwrap

FENCE = re.compile(
    r"(?P<skip><!-- no-run: [^\n]+ -->\n\s*)?"
    r"^(?P<indent> *)```python(?: title=\"(?P<file>\w+\.py)\")?[^\n]*\n"
    r"(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


def blocks(text):
    """Code, first line and file name, if any, of each block that is to run."""
    for match in FENCE.finditer(text):
        if match["skip"] is None:
            line = text.count("\n", 0, match.start("code"))
            yield textwrap.dedent(match["code"]), line, match["file"]


def run_page(text, name, folder, monkeypatch):
    """Run all blocks in one namespace, as a reader does in a folder.

    A block with a title is also appended to the file of that name, which later blocks
    and other processes can import.
    """
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    namespace = {"__name__": "snippet"}
    for code, line, file in blocks(text):
        if file is not None:
            monkeypatch.delitem(sys.modules, file.removesuffix(".py"), raising=False)
            with (folder / file).open("a", encoding="utf-8") as module:
                module.write(code)
        # Empty lines in front let a traceback name the line of the page.
        exec(compile("\n" * line + code, name, "exec"), namespace)
