"""Meshes that others wrote."""

import os
import warnings
from pathlib import Path
from typing import Any

import pyvista as pv

MESH_SUFFIXES = (".stl", ".ply", ".obj", ".vtp", ".vtu", ".vtk")
"""Mesh files that `read_mesh` takes."""


def read_mesh(path: str | os.PathLike[str]) -> Any:
    """Read a surface or a volume mesh.

    Args:
        path: A file with one of `MESH_SUFFIXES`.

    Returns:
        A `pyvista.PolyData` or `pyvista.UnstructuredGrid` with at least one cell.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of another format, is broken, holds no such mesh, or a
            coordinate of it is not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"mesh={str(path)!r} is no file")
    if path.suffix.lower() not in MESH_SUFFIXES:
        raise ValueError(f"mesh={str(path)!r} is none of {', '.join(MESH_SUFFIXES)}")
    with pv.vtk_verbosity("off"), warnings.catch_warnings():
        warnings.filterwarnings("error", "The VTK reader", UserWarning)
        try:
            mesh = pv.read(path)
        except (UserWarning, RuntimeError) as error:
            raise ValueError(f"mesh={str(path)!r} cannot be read: broken?") from error
    if not isinstance(mesh, pv.PolyData | pv.UnstructuredGrid) or not mesh.n_cells:
        raise ValueError(f"mesh={str(path)!r} holds no surface or unstructured mesh")
    finite = (abs(mesh.points) < float("inf")).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"mesh={str(path)!r} has {(~finite).sum()} vertices with coordinates that "
            "are nan or infinite: repair it"
        )
    return mesh
