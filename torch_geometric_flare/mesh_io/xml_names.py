"""Escape array names for VTK's XML writers, which do not.

Part of `reader_process`, so it imports nothing from the package.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.sax.saxutils import escape

_ENTITIES = {'"': "&quot;", "\n": "&#10;", "\t": "&#9;", "\r": "&#13;"}


@contextmanager
def escaped_names(mesh: Any) -> Iterator[None]:
    """Escape the names of all arrays of a dataset while it is written.

    A name such as `p > 0` would give an unreadable file.

    Args:
        mesh: The dataset.
    """
    renamed = []
    for data in (mesh.GetPointData(), mesh.GetCellData(), mesh.GetFieldData()):
        for index in range(data.GetNumberOfArrays()):
            array = data.GetAbstractArray(index)
            name = array.GetName()
            if name and (safe := escape(name, _ENTITIES)) != name:
                array.SetName(safe)
                renamed.append((array, name))
    try:
        yield
    finally:
        for array, name in renamed:
            array.SetName(name)
