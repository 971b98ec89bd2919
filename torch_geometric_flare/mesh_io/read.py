"""Meshes that others wrote."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyvista as pv

from torch_geometric_flare.mesh_io import reader_process
from torch_geometric_flare.mesh_io.visible import visible_part

MESH_SUFFIXES = (".stl", ".ply", ".obj", ".vtp", ".vtu", ".vtk")
"""Mesh files that `read_mesh` takes."""

# More than any reader of VTK takes for an honest file, and little enough for a file
# whose header claims what it does not hold.
_MEGABYTES, _MEGABYTES_PER_MEGABYTE = 2048, 30
_SECONDS, _SECONDS_PER_MEGABYTE = 8, 0.25
# The processor time is limited; a busy machine may take longer by this factor.
_PATIENCE = 10


def read_mesh(path: str | os.PathLike[str]) -> Any:
    """Read a surface or a volume mesh, of which nothing is trusted.

    VTK reads the file in a process of its own, with limits of memory and time that
    follow from the size of the file, so that a broken file ends that process alone.
    What it has read is then checked: every cell names vertices that exist, has as many
    as its type needs, and no coordinate is nan or infinite. Hidden, ghost and empty
    cells, loose points, and vertices and lines beside faces are left out:
    `visible_part`.

    Args:
        path: A file with one of `MESH_SUFFIXES`, in text or binary form.

    Returns:
        A `pyvista.PolyData` or `pyvista.UnstructuredGrid` with at least one cell, and
        the point, cell and field data of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of another format, is broken, holds no such mesh, or a
            coordinate of it is not finite. Cells of arbitrary order (Lagrange, Bézier)
            are refused.
        OSError: If the file may not be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"mesh={str(path)!r} is no file")
    if path.suffix.lower() not in MESH_SUFFIXES:
        raise ValueError(f"mesh={str(path)!r} is none of {', '.join(MESH_SUFFIXES)}")
    with path.open("rb"):  # may it be read?
        megabytes = path.stat().st_size >> 20
    with tempfile.TemporaryDirectory(prefix="mesh-") as folder:
        reason = _read_elsewhere(path, folder, megabytes)
        if reason:
            raise ValueError(f"mesh={str(path)!r} {reason}")
        (checked,) = Path(folder).iterdir()
        try:
            return visible_part(pv.read(checked))
        except ValueError as error:
            raise ValueError(f"mesh={str(path)!r}: {error}") from error


def _read_elsewhere(path: Path, folder: str, megabytes: int) -> str:
    """Return what is wrong with the mesh, or nothing once it lies in `folder`."""
    seconds = _SECONDS + int(_SECONDS_PER_MEGABYTE * megabytes)
    memory = _MEGABYTES + _MEGABYTES_PER_MEGABYTE * megabytes
    script = reader_process.__file__
    # Stacks and buffers of threads count as memory.
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
