"""Read untrusted mesh files."""

import os
import re
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyvista as pv
from vtkmodules.vtkCommonDataModel import vtkDataObject

from torch_geometric_flare._arguments import brief, expand_path
from torch_geometric_flare._files import MESH_SUFFIXES
from torch_geometric_flare._finite import count_gaps
from torch_geometric_flare.mesh_io import reader_process
from torch_geometric_flare.mesh_io.visible import visible_part

FURTHER_SUFFIXES = (
    *(".vts", ".vtr", ".vti", ".vtm", ".pvd", ".foam"),
    *(".cgns", ".exo", ".e", ".msh", ".inp"),
)
"""Other files that `read_mesh` accepts: structured grids, cases with blocks and time
steps, and meshes of Gmsh, Fluent (`.msh`), Abaqus and AVS (`.inp`)."""

# More than any VTK reader needs for a valid file, but small enough for a file whose
# header claims too much.
_MEGABYTES, _MEGABYTES_PER_MEGABYTE = 2048, 30
_SECONDS, _SECONDS_PER_MEGABYTE = 8, 0.25
# CPU time is limited; wall time on a busy machine may exceed it by this factor.
_PATIENCE = 10
_MOST_NAMED = 12
_LARGEST_INDEX = 2**24  # bytes of a list of other files


def read_mesh(
    path: str | os.PathLike[str],
    *,
    block: str | None = None,
    time: float | None = None,
) -> Any:
    """Read a surface or a volume mesh from an untrusted file.

    VTK reads the file in a separate process, with limits on memory and time that depend
    on the size of the file, so that a broken file can only end that process. The mesh
    is then validated: every cell refers to existing vertices, has the number that its
    type needs, and all coordinates are finite. Hidden, ghost and empty cells,
    unused points, and vertices and lines next to faces are left out, see
    `visible_part`.

    Text STL may be in upper case, have names after `endsolid`, a byte order mark, or no
    end; the header of PLY may be in upper case or have such a mark; of OBJ only
    vertices and faces are read, each vertex once. Files of Gmsh and Abaqus need meshio,
    which the extra `data` installs; those of Abaqus have no fields. A case of
    OpenFOAM is an empty file `case.foam` in its folder.

    Args:
        path: A file with one of `MESH_SUFFIXES` or `FURTHER_SUFFIXES`, in text or
            binary form; `~` is the home folder.
        block: Name of the block, if there are several: a patch such as `"inlet"`, a
            zone, or a named group of cells; with slashes its path, such as
            `"boundary/wall"`. A block of blocks is merged.
        time: Value of the time step, if there are several.

    Returns:
        A `pyvista.PolyData` or `pyvista.UnstructuredGrid` with at least one cell, and
        the point, cell and field data of the file. Structured grids become
        unstructured.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file has another format, is broken, holds no such mesh, or a
            coordinate is not finite; if it has several blocks or time steps and none is
            named, or the named one does not exist. The message lists the available
            ones. Cells of arbitrary order (Lagrange, Bézier) are refused.
        OSError: If the file may not be read.
    """
    path = expand_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"mesh={str(path)!r} is not a file")
    suffixes = (*MESH_SUFFIXES, *FURTHER_SUFFIXES)
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"mesh={str(path)!r} is none of {', '.join(suffixes)}")
    with path.open("rb"):  # raises OSError if it may not be read
        megabytes = _size(path) >> 20
    part = (block or "", "" if time is None else repr(float(time)))
    with tempfile.TemporaryDirectory(prefix="mesh-") as folder:
        reason = _read_elsewhere(path, folder, megabytes, part)
        if reason:
            raise ValueError(f"mesh={str(path)!r} {reason}")
        (checked,) = Path(folder).iterdir()
        try:
            return visible_part(pv.read(checked))
        except ValueError as error:
            raise ValueError(f"mesh={str(path)!r}: {error}") from error


def _size(path: Path) -> int:
    """Return the size in bytes of a file and of the files that it refers to."""
    suffix = path.suffix.lower()
    if suffix == ".foam":
        return sum(file.stat().st_size for file in path.parent.rglob("*"))
    size = path.stat().st_size
    if suffix in (".vtm", ".pvd") and size < _LARGEST_INDEX:
        text = path.read_text(encoding="utf-8", errors="replace")
        named = re.findall(r'file="([^"]+)"', text)
        files = (path.parent / name for name in named)
        size += sum(file.stat().st_size for file in files if file.is_file())
    return size


def _read_elsewhere(
    path: Path, folder: str, megabytes: int, part: tuple[str, str]
) -> str:
    """Read the mesh to `folder`; return an error text, empty on success."""
    seconds = _SECONDS + int(_SECONDS_PER_MEGABYTE * megabytes)
    memory = _MEGABYTES + _MEGABYTES_PER_MEGABYTE * megabytes
    script = reader_process.__file__
    # The memory limit includes stacks and buffers of threads.
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [
                sys.executable,
                script,
                path.absolute(),
                folder,
                str(memory),
                str(seconds),
                *part,
            ],
            env={**os.environ, **one_thread},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE * seconds,
        )
    except subprocess.TimeoutExpired:
        return f"cannot be read within {_PATIENCE * seconds} seconds: broken?"
    said = done.stdout.decode(errors="replace").splitlines()
    if not said or said[0] != reader_process.STARTED:
        reason = done.stderr.decode(errors="replace").splitlines()[-1:]
        raise RuntimeError(f"the process that reads meshes did not start: {reason}")
    if done.returncode == 0:
        return ""
    if done.returncode == reader_process.REFUSED:
        return said[-1]
    return f"cannot be read within {memory:,} MB and {seconds} seconds: broken?"


def as_mesh(mesh: Any, name: str = "mesh") -> Any:
    """Return a mesh in memory as a `pyvista.PolyData` or `pyvista.UnstructuredGrid`.

    Args:
        mesh: A mesh of PyVista or VTK; a structured grid becomes an unstructured one.
        name: Name of the mesh in messages.

    Raises:
        TypeError: If it is not a single mesh.
        ValueError: If it has no points, or their coordinates are not all finite.
    """
    wrapped = mesh
    if isinstance(mesh, vtkDataObject):
        with suppress(TypeError):  # types that PyVista does not know
            wrapped = pv.wrap(mesh)
    if isinstance(wrapped, pv.MultiBlock):
        names = ", ".join(repr(key) for key in wrapped.keys()[:_MOST_NAMED])
        raise TypeError(
            f"{name} is a MultiBlock of {len(wrapped)} blocks ({names or 'none'}): "
            "pass one of them, or all as one by combine()"
        )
    if not isinstance(wrapped, pv.DataSet):
        raise TypeError(
            f"{name} is {brief(mesh)}, expected the path of a mesh file or a mesh of "
            "PyVista; of points alone Surrogate.predict takes a tensor"
        )
    if wrapped.n_points == 0:
        raise ValueError(f"{name} is empty: it has no points")
    finite = np.isfinite(wrapped.points).all(axis=1)
    if not finite.all():
        raise ValueError(f"{name} has {count_gaps(finite, 'vertices')}: repair it")
    if isinstance(wrapped, pv.PolyData | pv.UnstructuredGrid):
        return wrapped
    return wrapped.cast_to_unstructured_grid()
