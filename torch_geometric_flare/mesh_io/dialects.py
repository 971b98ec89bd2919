"""Dialects of text formats that VTK does not read, rewritten to the ones that it does.

Part of `reader_process`, so that it imports nothing of the package.
"""

import codecs
from collections.abc import Iterator
from pathlib import Path

_BOMS = (  # the longer one first: it begins with the shorter
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_STL_HEADER, _STL_FACET = 84, 50  # bytes of a binary file


class Malformed(Exception):
    """What is wrong with the text, as the end of a sentence about the file."""


def rewrite(path: Path, folder: Path) -> Path:
    """Return a file that VTK reads: the given one, or one written to `folder`.

    Text STL may be written in capitals, begin with a byte order mark, have names behind
    `endsolid`, or lack that line. OBJ keeps vertices and faces alone: comments, lines,
    points, texture coordinates and normals are left out, so that a vertex on a seam of
    the texture stays one vertex.

    Raises:
        Malformed: If the facets of a text STL are not whole.
    """
    suffix = path.suffix.lower()
    if suffix == ".obj":
        lines = _obj(_text(path))
    elif suffix == ".stl" and _is_text_stl(path):
        lines = _stl(_text(path))
    else:
        return path
    written = folder / f"rewritten{suffix}"
    with written.open("w", encoding="ascii", errors="replace") as file:
        file.writelines(lines)
    return written


def _encoding(path: Path) -> tuple[int, str]:
    """Return the length of the byte order mark, and the encoding that it says."""
    with path.open("rb") as file:
        head = file.read(4)
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return len(mark), encoding
    return 0, "utf-8"


def _text(path: Path) -> Iterator[str]:
    """Yield the lines of a file in lower case, without line breaks."""
    _, encoding = _encoding(path)
    # The codec for little and big endian keeps the mark as a character.
    with path.open(encoding=encoding, errors="replace") as file:
        for line in file:
            yield line.strip().lstrip("\ufeff").lower()


def _is_text_stl(path: Path) -> bool:
    mark, encoding = _encoding(path)
    with path.open("rb") as file:
        file.seek(mark)
        head = file.read(_STL_HEADER)
    if not head.decode(encoding, errors="replace").lstrip().lower().startswith("solid"):
        return False
    # Some write "solid" into the header of a binary file, whose size then fits.
    facets = int.from_bytes(head[80:84], "little")
    binary = len(head) == _STL_HEADER
    return not (binary and path.stat().st_size == _STL_HEADER + _STL_FACET * facets)


def _stl(lines: Iterator[str]) -> Iterator[str]:
    """Yield one solid of the facets of all solids."""
    yield "solid\n"
    corners: list[str] = []
    inside, facets = False, 0
    for line in lines:
        words = line.split()
        if not words or words[0] in ("solid", "endsolid", "outer", "endloop"):
            continue
        kind = words[0] + words[1] if words[0] == "end" and len(words) > 1 else words[0]
        if kind in ("endsolid", "endloop"):
            continue
        if kind == "facet" and not inside:
            inside, corners = True, []
            facets += 1
        elif kind == "vertex" and inside and len(words) == 4:
            corners.append(line)
        elif kind == "endfacet" and inside and len(corners) == 3:
            inside = False
            yield "facet normal 0 0 0\nouter loop\n"
            yield "\n".join(corners)
            yield "\nendloop\nendfacet\n"
        else:
            raise Malformed(
                f"has {line[:40]!r} in facet {facets}, where a text STL has three "
                "vertices between 'facet' and 'endfacet': broken?"
            )
    if inside:
        raise Malformed(f"ends inside of facet {facets}: broken?")
    yield "endsolid\n"


def _obj(lines: Iterator[str]) -> Iterator[str]:
    """Yield vertices and faces."""
    unfinished = ""
    for line in lines:
        line = unfinished + line.partition("#")[0].strip()
        if line.endswith("\\"):
            unfinished = line[:-1] + " "
            continue
        unfinished = ""
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            yield f"v {' '.join(words[1:4])}\n"
        elif words[0] == "f":
            corners = " ".join(word.partition("/")[0] for word in words[1:])
            yield f"f {corners}\n"
