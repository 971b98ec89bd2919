"""A script that reads and validates one mesh file in a separate process.

    python reader_process.py MESH FOLDER MEGABYTES SECONDS [BLOCK [TIME]]

VTK trusts the content of a file: a wrong count or index can crash the process or
exhaust its memory. `read_mesh` therefore starts this script, which prints `STARTED`,
uses at most the given memory and CPU time, and writes a validated mesh to FOLDER, in
VTK's XML format without compression. On an error it prints the end of a sentence whose
subject is the file, and exits with `REFUSED`.

It imports only three modules of the package from its folder, which import none, so it
starts without torch.
"""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyvista as pv
from vtkmodules import (
    vtkCommonDataModel as vtk,
)  # `import vtk` would take twice as long
from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter, vtkXMLUnstructuredGridWriter

if __package__:
    from torch_geometric_flare.mesh_io import dialects, parts, xml_names
else:  # if run as a script
    import dialects  # type: ignore[import-not-found, no-redef]
    import parts  # type: ignore[import-not-found, no-redef]
    import xml_names  # type: ignore[import-not-found, no-redef]

STARTED = "started"
REFUSED = 3

_VARIABLE = {  # cell types with any number of corners, and the minimum
    vtk.VTK_POLY_VERTEX: 1,
    vtk.VTK_POLY_LINE: 2,
    vtk.VTK_TRIANGLE_STRIP: 3,
    vtk.VTK_POLYGON: 3,
    vtk.VTK_QUADRATIC_POLYGON: 6,
    vtk.VTK_CONVEX_POINT_SET: 4,
    vtk.VTK_POLYHEDRON: 4,
}
_LONGEST = 200  # characters of VTK's message
# Higher types are cells of arbitrary order with other rules for corners.
_LAST_KIND = vtk.VTK_POLYHEDRON

Integers = npt.NDArray[np.integer[Any]]


class Refused(Exception):
    """Error in the file."""


def limit(megabytes: int, seconds: int) -> None:
    """Limit memory and CPU time of this process, if the system supports it."""
    try:
        import resource
    except ImportError:  # Windows: only the parent's time limit applies
        return
    for name, value in (
        (resource.RLIMIT_DATA, megabytes << 20),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(name)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(name, (value, value))


def read(path: Path, folder: Path, block: str | None, time: float | None) -> Any:
    """Read the file without validation."""
    with pv.vtk_verbosity("off"):
        try:
            rewritten = dialects.rewrite(path, folder)
            mesh = parts.read_part(rewritten, block, time)
            if path.suffix.lower() == ".ply":
                points = dialects.double_points(rewritten)
                if points is not None and len(points) == mesh.n_points:
                    mesh.points = points
            if rewritten != path:
                rewritten.unlink()
        except (dialects.Malformed, parts.NoSuchPart) as reason:
            raise Refused(str(reason)) from reason
        except (RuntimeError, ValueError, OSError, LookupError, TypeError) as error:
            said = _reason(error, path.suffix)
            raise Refused(f"cannot be read: broken?{said}") from error
    if isinstance(mesh, pv.DataSet) and not isinstance(mesh, pv.PolyData):
        return mesh.cast_to_unstructured_grid()  # also converts grids
    return mesh


def _reason(error: Exception, suffix: str) -> str:
    """Return VTK's message about a file without its source location."""
    text = " ".join(str(error).split())
    if re.search(r"vtk\w+Pipeline", text):  # from a reader that has already failed
        return f" VTK finds nothing in it that a {suffix} file begins with"
    text = re.sub(r"^(ERROR|WARNING): In \S+, line \d+ |\(0x[0-9a-f]+\)", "", text)
    return f" VTK says: {text[:_LONGEST]}" if text else ""


def check(mesh: Any) -> None:
    """Refuse a mesh with inconsistent arrays."""
    kinds = (pv.PolyData, pv.UnstructuredGrid)
    if not isinstance(mesh, kinds) or not mesh.n_cells:
        raise Refused("holds no surface or unstructured mesh")
    if not mesh.n_points:
        raise Refused("holds cells but no points: broken?")
    finite = (abs(mesh.points) < float("inf")).all(axis=1)
    if not finite.all():
        raise Refused(
            f"has vertices that are not finite: {(~finite).sum():,} of "
            f"{len(finite):,}: repair it"
        )
    surface = isinstance(mesh, pv.PolyData)
    for cells, kind in surface_cells(mesh) if surface else grid_cells(mesh):
        check_cells(cells, kind, mesh.n_points)
    if not surface:
        check_polyhedra(mesh)
    for data, number in (
        (mesh.GetPointData(), mesh.n_points),
        (mesh.GetCellData(), mesh.n_cells),
    ):
        for index in range(data.GetNumberOfArrays()):
            array = data.GetAbstractArray(index)
            if array.GetNumberOfTuples() != number:
                raise Refused(
                    f"has {array.GetNumberOfTuples()} values of {array.GetName()!r} "
                    f"where it needs {number}: broken?"
                )


def surface_cells(mesh: Any) -> Iterator[tuple[Any, Integers]]:
    """Return the four cell lists of a surface, with the type of each cell."""
    for cells, kind in (
        (mesh.GetVerts(), vtk.VTK_POLY_VERTEX),
        (mesh.GetLines(), vtk.VTK_POLY_LINE),
        (mesh.GetPolys(), vtk.VTK_POLYGON),
        (mesh.GetStrips(), vtk.VTK_TRIANGLE_STRIP),
    ):
        yield cells, np.full(cells.GetNumberOfCells(), kind)


def grid_cells(mesh: Any) -> Iterator[tuple[Any, Integers]]:
    """Return the cells of an unstructured mesh, with the type of each."""
    yield mesh.GetCells(), np.asarray(mesh.celltypes)


def offsets_and_points(cells: Any) -> tuple[Integers, Integers]:
    """Return the offset of each cell and the points of all cells."""
    offsets = np.asarray(pv.convert_array(cells.GetOffsetsArray()))
    points = np.asarray(pv.convert_array(cells.GetConnectivityArray()))
    if len(offsets) == 0 and cells.GetNumberOfCells() == 0:
        return np.zeros(1, np.int64), points
    if (
        len(offsets) != cells.GetNumberOfCells() + 1
        or offsets[0] != 0
        or (offsets[1:] < offsets[:-1]).any()
        or offsets[-1] > len(points)
    ):
        raise Refused(
            "has cells that begin or end outside of its connectivity: broken?"
        )
    return offsets, points[: offsets[-1]]


def check_cells(cells: Any, kind: Integers, num_points: int) -> None:
    """Refuse cells with missing points or with the wrong number of points."""
    offsets, points = offsets_and_points(cells)
    if len(kind) != len(offsets) - 1:
        raise Refused(f"has {len(offsets) - 1} cells but {len(kind)} types: broken?")
    wrong = (points < 0) | (points >= num_points)
    if wrong.any():
        raise Refused(
            f"has cells with the vertex {points[wrong][0]}, but its {num_points} "
            f"vertices are 0 to {num_points - 1}: broken?"
        )
    corners = np.diff(offsets)
    for number in np.unique(kind):
        cell = vtk.vtkGenericCell.InstantiateCell(int(number))
        if cell is None or number > _LAST_KIND:
            raise Refused(
                f"has cells of the VTK type {number}, which is not read here: convert "
                "them to linear or quadratic ones"
            )
        counts = corners[kind == number]
        least = _VARIABLE.get(int(number), cell.GetNumberOfPoints())
        most = counts.max() if number in _VARIABLE else least
        if counts.min() < least or counts.max() > most:
            raise Refused(
                f"has cells of the VTK type {number} with {counts.min()} to "
                f"{counts.max()} vertices, where they need {least}: broken?"
            )


def check_polyhedra(mesh: Any) -> None:
    """Refuse polyhedra with missing faces."""
    faces, of_cells = mesh.GetPolyhedronFaces(), mesh.GetPolyhedronFaceLocations()
    is_polyhedron = np.asarray(mesh.celltypes) == vtk.VTK_POLYHEDRON
    if faces is None or of_cells is None:
        if is_polyhedron.any():
            raise Refused("has polyhedra without faces: broken?")
        return
    kind = np.full(faces.GetNumberOfCells(), vtk.VTK_POLYGON)
    check_cells(faces, kind, mesh.n_points)
    offsets, numbers = offsets_and_points(of_cells)
    wrong = (numbers < 0) | (numbers >= faces.GetNumberOfCells())
    few = (
        len(offsets) != mesh.n_cells + 1 or (np.diff(offsets)[is_polyhedron] < 4).any()
    )
    if wrong.any() or few:
        raise Refused("has polyhedra with faces that do not exist: broken?")


def write(mesh: Any, folder: str) -> None:
    """Write the mesh uncompressed."""
    writer: Any
    if isinstance(mesh, pv.PolyData):
        writer, suffix = vtkXMLPolyDataWriter(), ".vtp"
    else:
        writer, suffix = vtkXMLUnstructuredGridWriter(), ".vtu"
    writer.SetInputData(mesh)
    writer.SetFileName(os.path.join(folder, f"mesh{suffix}"))
    writer.SetDataModeToAppended()
    writer.EncodeAppendedDataOff()
    writer.SetCompressorTypeToNone()
    writer.SetHeaderTypeToUInt64()
    with xml_names.escaped_names(mesh):
        written = writer.Write()
    if not written:
        raise Refused("cannot be handed over: is the temporary folder full?")


def main(
    path: str,
    folder: str,
    megabytes: str,
    seconds: str,
    block: str = "",
    time: str = "",
) -> int:
    """Read, validate and write."""
    print(STARTED, flush=True)
    limit(int(megabytes), int(seconds))
    try:
        wanted = float(time) if time else None
        mesh = read(Path(path), Path(folder), block or None, wanted)
        check(mesh)
        mesh.cell_centers()  # so that crashes in VTK happen here
        write(mesh, folder)
    except Refused as reason:
        print(reason)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
