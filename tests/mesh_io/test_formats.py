"""Formats of solvers and meshers, each with points, cells and fields."""

import h5py
import meshio
import numpy as np
import pytest
from scipy.io import netcdf_file

from torch_geometric_flare.mesh_io import read_mesh

POINTS = np.array([[x, y, z] for z in (0.0, 1.0) for x, y in ((0, 0), (2, 0), (2, 1))])
TETRAHEDRA = np.array([[0, 1, 2, 5], [0, 4, 5, 3], [0, 1, 5, 4]])
AT_POINTS, AT_CELLS = np.arange(6) * 1.5, np.array([-1.0, 0.25, 3.0])


def by_meshio(path):
    """With the fields that the format has."""
    fields = {"point_data": {"T": AT_POINTS}, "cell_data": {"q": [AT_CELLS]}}
    kind = path.stem
    if kind == "abaqus":
        fields = {}
    mesh = meshio.Mesh(POINTS, [("tetra", TETRAHEDRA)], **fields)
    meshio.write(path, mesh, file_format=kind)


def cgns(path):
    """As the standard's mapping to HDF5 has it; meshio writes no labels."""
    kinds = {"i4": b"I4", "f4": b"R4", "f8": b"R8", "i1": b"C1"}

    def label(group, name, label, value=None):
        if isinstance(value, str):
            value = np.frombuffer(value.encode(), "i1")
        kind = b"MT" if value is None else kinds[value.dtype.str[1:]]
        group.attrs["name"] = np.array(name.encode(), "S33")
        group.attrs["label"] = np.array(label.encode(), "S33")
        group.attrs["type"] = np.array(kind, "S3")
        group.attrs["flags"] = np.array([1], "i4")
        if value is not None:
            group.create_dataset(" data", data=value)
        return group

    def node(parent, name, kind, value=None):
        return label(parent.create_group(name), name, kind, value)

    sizes = np.array([[len(POINTS)], [len(TETRAHEDRA)], [0]], "i4")
    with h5py.File(path, "w") as file:
        label(file, "HDF5 MotherNode", "Root Node of HDF5 File")
        file[" format"] = np.frombuffer(b"IEEE_LITTLE_32\0", "i1")
        file[" hdf5version"] = np.frombuffer(b"HDF5 Version 1.8".ljust(33, b"\0"), "i1")
        node(file, "CGNSLibraryVersion", "CGNSLibraryVersion_t", np.array([3.4], "f4"))
        base = node(file, "Base", "CGNSBase_t", np.array([3, 3], "i4"))
        zone = node(base, "body", "Zone_t", sizes)
        node(zone, "ZoneType", "ZoneType_t", "Unstructured")
        place = node(zone, "GridCoordinates", "GridCoordinates_t")
        for axis, name in enumerate("XYZ"):
            node(place, f"Coordinate{name}", "DataArray_t", POINTS[:, axis].copy())
        cells = node(zone, "Tetrahedra", "Elements_t", np.array([10, 0], "i4"))
        ends = np.array([1, len(TETRAHEDRA)], "i4")
        node(cells, "ElementRange", "IndexRange_t", ends)
        corners = (TETRAHEDRA.ravel() + 1).astype("i4")
        node(cells, "ElementConnectivity", "DataArray_t", corners)
        for where, name, values in (
            ("Vertex", "T", AT_POINTS),
            ("CellCenter", "q", AT_CELLS),
        ):
            solution = node(zone, f"At{where}", "FlowSolution_t")
            node(solution, "GridLocation", "GridLocation_t", where)
            node(solution, name, "DataArray_t", values)


def exodus(path):
    """One block of elements, in classic netCDF."""
    sizes = {"time_step": None, "len_name": 33, "len_string": 33, "num_dim": 3}
    sizes |= {"num_nodes": len(POINTS), "num_elem": len(TETRAHEDRA), "num_el_blk": 1}
    sizes |= {"num_el_in_blk1": len(TETRAHEDRA), "num_nod_per_el1": 4}
    sizes |= {"num_nod_var": 1, "num_elem_var": 1}
    names = {
        name: np.frombuffer(name.encode().ljust(33, b"\0"), "S1")[None] for name in "Tq"
    }
    variables = {
        "time_whole": ("d", ("time_step",), [0.0]),
        "eb_status": ("i", ("num_el_blk",), [1]),
        "eb_prop1": ("i", ("num_el_blk",), [1]),
        "coordx": ("d", ("num_nodes",), POINTS[:, 0]),
        "coordy": ("d", ("num_nodes",), POINTS[:, 1]),
        "coordz": ("d", ("num_nodes",), POINTS[:, 2]),
        "connect1": ("i", ("num_el_in_blk1", "num_nod_per_el1"), TETRAHEDRA + 1),
        "name_nod_var": ("c", ("num_nod_var", "len_name"), names["T"]),
        "name_elem_var": ("c", ("num_elem_var", "len_name"), names["q"]),
        "vals_nod_var1": ("d", ("time_step", "num_nodes"), AT_POINTS[None]),
        "vals_elem_var1eb1": ("d", ("time_step", "num_el_in_blk1"), AT_CELLS[None]),
    }
    with netcdf_file(path, "w", version=2) as file:
        file.title = b"body"
        file.api_version = file.version = np.float32(4.98)
        file.floating_point_word_size, file.file_size = np.int32(8), np.int32(1)
        for name, size in sizes.items():
            file.createDimension(name, size)
        for name, (kind, dimensions, values) in variables.items():
            file.createVariable(name, kind, dimensions)[:] = values
        file.variables["eb_prop1"].name = b"ID"
        file.variables["connect1"].elem_type = b"TETRA"


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("gmsh22.msh", by_meshio),
        ("gmsh.msh", by_meshio),
        ("avsucd.inp", by_meshio),
        ("abaqus.inp", by_meshio),
        ("case.cgns", cgns),
        ("case.exo", exodus),
        ("case.e", exodus),
    ],
)
def test_points_cells_and_fields(tmp_path, name, write):
    write(tmp_path / name)
    mesh = read_mesh(tmp_path / name)
    # A reader may number points anew.
    distance = np.linalg.norm(np.asarray(mesh.points)[:, None] - POINTS, axis=2)
    number = distance.argmin(1)
    assert sorted(number) == list(range(6)) and distance.min(1).max() == 0
    (cells,) = mesh.cells_dict.values()
    # The corners of AVS go around the other way.
    assert np.array_equal(np.sort(number[cells]), np.sort(TETRAHEDRA))
    assert abs(mesh.volume) == pytest.approx(1.0)
    if name == "abaqus.inp":
        return
    np.testing.assert_array_equal(mesh.point_data["T"], AT_POINTS[number])
    np.testing.assert_array_equal(mesh.cell_data["q"], AT_CELLS)


FLUENT = """(0 "two triangles")
(2 2)
(10 (0 1 4 0 2))
(10 (1 1 4 1 2)(
0 0
2 0
2 1
0 1
))
(12 (0 1 2 0))
(12 (2 1 2 1 1))
(13 (0 1 5 0))
(13 (3 1 1 2 2)(
1 3 1 2
))
(13 (4 2 5 3 2)(
1 2 1 0
2 3 1 0
3 4 2 0
4 1 2 0
))
(45 (2 fluid gas)())
(45 (3 interior inside)())
(45 (4 wall wall)())
"""


def test_fluent(tmp_path):
    (tmp_path / "case.msh").write_text(FLUENT)
    with pytest.raises(ValueError, match="gas:fluid.*wall:wall"):
        read_mesh(tmp_path / "case.msh")
    gas = read_mesh(tmp_path / "case.msh", block="gas:fluid")
    corners = np.asarray(gas.points)[:, :2]
    assert sorted(map(tuple, corners)) == [(0, 0), (0, 1), (2, 0), (2, 1)]
    assert (gas.n_cells, gas.area) == (2, pytest.approx(2.0))
    wall = read_mesh(tmp_path / "case.msh", block="wall:wall")
    assert (wall.n_cells, wall.length) == (4, pytest.approx(5**0.5))


@pytest.mark.parametrize(("name", "kind"), [("a.cgns", "cgns"), ("a.msh", "ansys")])
def test_what_meshio_writes_outside_of_the_standard(tmp_path, name, kind):
    """CGNS without labels, and cells of Fluent without faces."""
    path = tmp_path / name
    mesh = meshio.Mesh(POINTS, [("tetra", TETRAHEDRA)])
    meshio.write(path, mesh, file_format=kind)
    with pytest.raises(ValueError) as caught:
        read_mesh(path)
    text = str(caught.value)
    assert text.startswith(f"mesh={str(path)!r} ") and "\n" not in text


@pytest.mark.parametrize("suffix", [".cgns", ".vts"])
def test_what_is_not_a_file_of_its_suffix(tmp_path, suffix):
    path = tmp_path / f"case{suffix}"
    path.write_text("not a mesh\n" * 20)
    with pytest.raises(ValueError, match=rf"case.*broken.*a {suffix} file") as error:
        read_mesh(path)
    assert "Pipeline" not in str(error.value)
