"""Read one mesh from a file with blocks and time steps.

Part of `reader_process`, so it imports nothing from the package.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyvista as pv
from vtkmodules import vtkCommonCore

_MOST_NAMED = 12


class NoSuchPart(Exception):
    """The available parts; the message completes a sentence about the file."""


def read_part(path: Path, block: str | None, time: float | None) -> Any:
    """Return one mesh of a file.

    Args:
        path: The file.
        block: Name of a block, a patch, or a named group of cells; with slashes, its
            path. All its parts are merged. `None` if there is one block; with named
            groups, it selects the whole mesh.
        time: A time step by its value; `None` if there is only one.

    Raises:
        NoSuchPart: If there is no such block or time, or there are several and none is
            named.
        OSError: If VTK reports an error, with its text.
    """
    text = _beginning(path)
    suffix = path.suffix.lower()
    if suffix == ".msh" and not text.startswith("("):  # otherwise of Fluent
        return _read_meshio(path, "gmsh", block, time)
    if suffix == ".inp" and text.startswith("*"):  # of Abaqus; otherwise of AVS
        return _read_meshio(path, "abaqus", block, time)
    reader = pv.get_reader(path, force_ext=".cas" if suffix == ".msh" else None)
    if hasattr(reader, "enable_all_patch_arrays"):  # of OpenFOAM
        reader.enable_all_patch_arrays()
    times = list(getattr(reader, "time_values", None) or [])
    chosen = _choose_time(times, time)
    if chosen is not None:
        reader.set_active_time_value(chosen)
    errors = _errors_of(reader.reader)
    mesh = reader.read()
    if errors:
        raise OSError(errors[0])
    return _one_block(mesh, block)


def _errors_of(reader: Any) -> list[str]:
    """Return a list that collects the error messages of a VTK reader."""
    errors: list[str] = []

    def note(caller: Any, event: str, text: str) -> None:
        errors.append(text)

    if hasattr(reader, "AddObserver"):
        note.CallDataType = vtkCommonCore.VTK_STRING  # type: ignore[attr-defined]
        reader.AddObserver("ErrorEvent", note)
    return errors


def _one_block(mesh: Any, name: str | None) -> Any:
    if not isinstance(mesh, pv.MultiBlock):
        if name is not None:
            raise NoSuchPart(f"has no blocks: leave out block={name!r}")
        return mesh
    blocks = dict(_leaves(mesh))
    if name is None and len(blocks) > 1:
        raise NoSuchPart(f"has several blocks: name one of {_few(blocks)} by block=")
    wanted = [
        block
        for path, block in blocks.items()
        if name is None or f"/{name}/" in f"/{path}/"
    ]
    if not wanted:
        raise NoSuchPart(
            f"has no block={name!r}, but {_few(blocks)}" if blocks else "holds no cells"
        )
    return wanted[0] if len(wanted) == 1 else pv.MultiBlock(wanted).combine()


def _leaves(blocks: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the meshes with cells by path, with numbers for duplicate names."""
    seen: set[str] = set()
    for index, block in enumerate(blocks):
        name = blocks.get_block_name(index) or f"block_{index}"
        path = f"{prefix}{name}"
        if path in seen:
            path = f"{path}_{index}"
        seen.add(path)
        if isinstance(block, pv.MultiBlock):
            yield from _leaves(block, f"{path}/")
        elif block is not None and block.n_cells:
            yield path, block


def _choose_time(times: Sequence[float], time: float | None) -> float | None:
    if time is None:
        if len(times) > 1:
            raise NoSuchPart(
                f"has several time steps: name one of {_few(times)} by time="
            )
        return None
    near = [each for each in times if np.isclose(each, time, rtol=1e-6, atol=1e-12)]
    if not near:
        raise NoSuchPart(f"has no time={time:g}, but {_few(times) or 'no time steps'}")
    return min(near, key=lambda each: abs(each - time))


def _read_meshio(path: Path, kind: str, block: str | None, time: float | None) -> Any:
    """Return a mesh read by meshio, or the cells of one of its named groups."""
    try:
        import meshio
    except ModuleNotFoundError:
        raise NoSuchPart(
            "needs meshio, which is not installed: pip install meshio"
        ) from None
    _choose_time([], time)
    read = meshio.read(path, file_format=kind)
    mesh = pv.from_meshio(read)
    if block is None:
        return mesh
    groups = {name: ids for name, ids in _groups(mesh, read).items() if len(ids)}
    if block not in groups:
        raise NoSuchPart(f"has no block={block!r}, but {_few(groups) or 'no groups'}")
    part = mesh.extract_cells(groups[block])
    for data in (part.point_data, part.cell_data):
        for name in ("vtkOriginalPointIds", "vtkOriginalCellIds"):
            data.pop(name, None)
    return part


def _groups(mesh: Any, read: Any) -> dict[str, Any]:
    """Return the indices of the cells in each named group."""
    starts = np.cumsum([0, *(len(block.data) for block in read.cells)])
    groups = {
        name: np.concatenate(
            [
                start + np.asarray(ids, int)
                for start, ids in zip(starts, parts, strict=False)
            ]
        )
        for name, parts in read.cell_sets.items()
        if not name.startswith("gmsh:")
    }
    tags = mesh.cell_data.get("gmsh:physical")
    if tags is None:
        return groups
    dimensions = np.array([block.dim for block in read.cells])
    dimensions = np.repeat(dimensions, np.diff(starts))
    for name, (tag, dimension) in read.field_data.items():
        groups[name] = np.flatnonzero((tags == tag) & (dimensions == dimension))
    return groups


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(200).decode(errors="replace").lstrip()


def _few(values: Iterable[Any]) -> str:
    named = [f"{value:g}" if isinstance(value, float) else value for value in values]
    more = len(named) - _MOST_NAMED
    return ", ".join(named[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
