"""Rewrite dialects of text formats that VTK does not read.

Part of `reader_process`, so it imports nothing from the package.
"""

import codecs
from array import array
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

_BOMS = (  # the longer one first, because it starts with the shorter one
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_STL_HEADER, _STL_FACET = 84, 50  # bytes of a binary file
_LONGEST_HEADER = 2**16  # bytes of a PLY file
# Tolerated rounding of a vertex, as a share of the extent of the mesh.
_LARGEST_SHIFT = 2.0**-20
_PLY_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}


class Malformed(Exception):
    """Error in the text; the message completes a sentence about the file."""


def rewrite(path: Path, folder: Path) -> Path:
    """Return a file that VTK reads: the same file, or one written to `folder`.

    Text STL may be in upper case, start with a byte order mark, have names after
    `endsolid`, or lack that line; the header of PLY may be in upper case or start with
    such a mark. Far from the origin STL is converted to OBJ, which VTK reads in double
    precision. Of OBJ, only vertices and faces are kept: without comments, lines,
    points, texture coordinates and normals, a vertex on a texture seam stays one
    vertex.

    Raises:
        Malformed: If the facets of a text STL are incomplete.
    """
    suffix = path.suffix.lower()
    if suffix == ".ply":
        content = _ply(path)
        if content is None:
            return path
        rewritten = folder / "rewritten.ply"
        rewritten.write_bytes(content)
        return rewritten
    if suffix == ".obj":
        lines = _obj(_text(path))
    elif suffix == ".stl" and _is_text_stl(path):
        if (far := _far_stl(path)) is not None:
            suffix, lines = ".obj", far
        else:
            lines = _stl(_text(path))
    else:
        return path
    written = folder / f"rewritten{suffix}"
    with written.open("w", encoding="ascii", errors="replace") as file:
        file.writelines(lines)
    return written


def double_points(path: Path) -> Any:
    """Return the vertices of a PLY file if single precision would move them.

    VTK always reads them in single precision.

    Returns:
        An array [N, 3], or `None` if VTK's vertices are accurate enough.
    """
    with path.open("rb") as file:
        kind, number, types = "", 0, {}
        element = ""
        for line in file:
            words = line.decode("latin-1").split()
            if words[:1] == ["format"]:
                kind = words[1]
            elif words[:1] == ["element"]:
                if element and element != "vertex" and not number:
                    return None  # vertices are not the first element
                element = words[1]
                number = int(words[2]) if element == "vertex" else number
            elif words[:1] == ["property"] and element == "vertex":
                types[words[-1]] = _PLY_TYPES.get(words[1], "")
            elif words[:1] == ["end_header"]:
                break
        if [types.get(name) for name in "xyz"] != ["f8"] * 3 or "" in types.values():
            return None
        if kind == "ascii":
            places = [list(types).index(name) for name in "xyz"]
            points = np.loadtxt(file, usecols=places, max_rows=number, ndmin=2)
        else:
            order = ">" if "big" in kind else "<"
            row = np.dtype([(name, order + code) for name, code in types.items()])
            rows = np.fromfile(file, row, number)
            points = np.stack([rows[name].astype(float) for name in "xyz"], axis=1)
    return points if len(points) == number and _is_far(points) else None


def _is_far(points: Any) -> bool:
    """Return whether single precision would move points noticeably."""
    if not len(points) or not np.isfinite(points).all():
        return False
    span = np.ptp(points, axis=0).max()
    shift = np.abs(points.astype(np.float32) - points).max()
    return bool(shift > _LARGEST_SHIFT * span)


def _encoding(path: Path) -> tuple[int, str]:
    """Return the length of the byte order mark and its encoding."""
    with path.open("rb") as file:
        head = file.read(4)
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return len(mark), encoding
    return 0, "utf-8"


def _text(path: Path) -> Iterator[str]:
    """Yield the lines of a file in lower case, without line breaks."""
    _, encoding = _encoding(path)
    # The codecs for little and big endian keep the mark as a character.
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
    # Some binary files start with "solid"; their size matches the facet count.
    facets = int.from_bytes(head[80:84], "little")
    binary = len(head) == _STL_HEADER
    return not (binary and path.stat().st_size == _STL_HEADER + _STL_FACET * facets)


def _ply(path: Path) -> bytes | None:
    """Return a PLY file with the header that VTK reads; `None` if it has it."""
    mark, encoding = _encoding(path)
    with path.open("rb") as file:
        head = file.read(_LONGEST_HEADER)
    lines = head.partition(b"end_header")[0].splitlines()
    free = (b"comment", b"obj_info")  # lines of any text
    if not mark and all(line.islower() or line.startswith(free) for line in lines):
        return None
    content = path.read_bytes()[mark:]
    if encoding != "utf-8":  # text as a whole
        content = content.decode(encoding, errors="replace").encode()
    end = content[:_LONGEST_HEADER].lower().find(b"end_header") + len(b"end_header")
    return content[:end].lower() + content[end:]


def _stl(lines: Iterator[str]) -> Iterator[str]:
    """Yield the facets of all solids as one solid."""
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


def _far_stl(path: Path) -> Iterator[str] | None:
    """Convert a text STL to OBJ; `None` if single precision is sufficient.

    Corners that are equal in single precision relative to the first are merged.
    """
    numbers = array("d")
    for line in _stl(_text(path)):
        for corner in line.splitlines():
            if corner.startswith("vertex"):
                try:
                    numbers.extend(map(float, corner.split()[1:]))
                except ValueError:
                    return None  # VTK reports the error
    points = np.frombuffer(numbers).reshape(-1, 3) if numbers else np.empty((0, 3))
    if not _is_far(points):
        return None
    near = (points - points[0]).astype(np.float32)
    _, first, corner_of = np.unique(
        near, axis=0, return_index=True, return_inverse=True
    )
    vertices = (f"v {x!r} {y!r} {z!r}\n" for x, y, z in points[first].tolist())
    facets = (f"f {a} {b} {c}\n" for a, b, c in (corner_of.reshape(-1, 3) + 1).tolist())
    return chain(vertices, facets)


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
