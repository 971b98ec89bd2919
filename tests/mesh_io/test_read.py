import sys
import time

import numpy as np
import pytest
import pyvista as pv
import vtk

from torch_geometric_flare.mesh_io import MESH_SUFFIXES, read, read_mesh


@pytest.mark.mesh_process
@pytest.mark.parametrize("suffix", MESH_SUFFIXES)
def test_reads_every_format(tmp_path, suffix):
    mesh = pv.Sphere(theta_resolution=8, phi_resolution=8)
    if suffix == ".vtu":
        mesh = mesh.cast_to_unstructured_grid()
    mesh.save(tmp_path / f"body{suffix}")
    found = read_mesh(tmp_path / f"body{suffix}")
    assert found.n_cells == mesh.n_cells
    np.testing.assert_allclose(found.bounds, mesh.bounds, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_vertices_must_be_finite(tmp_path, value):
    mesh = pv.Sphere(theta_resolution=8, phi_resolution=8)
    mesh.points[[3, 5], [0, 2]] = value
    mesh.save(tmp_path / "body.vtk")
    with pytest.raises(ValueError, match="body.vtk' has vertices .*finite: 2 of"):
        read_mesh(str(tmp_path / "body.vtk"))


def test_what_is_no_mesh_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.stl' is not a file"):
        read_mesh(tmp_path / "absent.stl")
    for name, message in (
        ("note.txt", "is none of .stl"),
        ("broken.vtp", "cannot be read: broken"),
        ("broken.stl", "holds no surface|cannot be read"),
    ):
        (tmp_path / name).write_text("not a mesh\n")
        with pytest.raises(ValueError, match=message):
            read_mesh(tmp_path / name)
    pv.PolyData().save(tmp_path / "empty.vtk")
    with pytest.raises(ValueError, match="holds no surface or unstructured mesh"):
        read_mesh(tmp_path / "empty.vtk")


def refused(path, content):
    """What the user reads about a file of this content."""
    path.write_text(content) if isinstance(content, str) else path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_mesh(path)
    message = str(caught.value)
    assert message.startswith(f"mesh={str(path)!r} ")
    assert "\n" not in message
    return message


PLY = """ply
format ascii 1.0
element vertex {vertices}
property float x
property float y
property float z
element face {faces}
property list uchar int vertex_indices
end_header
0 0 0
1 0 0
0 1 0
{face}
"""
VTU = """<VTKFile type="UnstructuredGrid" version="0.1"><UnstructuredGrid>
<Piece NumberOfPoints="{vertices}" NumberOfCells="1">
<Points><DataArray type="Float32" NumberOfComponents="3" format="ascii">
0 0 0 1 0 0 0 1 0</DataArray></Points>
<Cells><DataArray type="Int64" Name="connectivity" format="ascii">{face}</DataArray>
<DataArray type="Int64" Name="offsets" format="ascii">{end}</DataArray>
<DataArray type="UInt8" Name="types" format="ascii">{kind}</DataArray></Cells>
</Piece></UnstructuredGrid></VTKFile>
"""
VTP = """<VTKFile type="PolyData" version="0.1"><PolyData>
<Piece NumberOfPoints="3" NumberOfPolys="1">
<Points><DataArray type="Float32" NumberOfComponents="3" format="ascii">
0 0 0 1 0 0 0 1 0</DataArray></Points>
<Polys><DataArray type="Int64" Name="connectivity" format="ascii">{face}</DataArray>
<DataArray type="Int64" Name="offsets" format="ascii">3</DataArray></Polys>
</Piece></PolyData></VTKFile>
"""
LEGACY = """# vtk DataFile Version 3.0
a triangle
ASCII
DATASET POLYDATA
POINTS 3 float
0 0 0 1 0 0 0 1 0
POLYGONS 1 4
3 {face}
"""


def vtu(vertices=3, face="0 1 2", end=3, kind=5):
    return VTU.format(vertices=vertices, face=face, end=end, kind=kind)


def ply(vertices=3, faces=1, face="3 0 1 2"):
    return PLY.format(vertices=vertices, faces=faces, face=face)


def obj(face):
    return f"v 0 0 0\nv 1 0 0\nv 0 1 0\nf {face}\n"


def test_the_files_of_these_tests_are_meshes_where_nothing_is_wrong(tmp_path):
    for name, content in (
        ("a.ply", ply()),
        ("a.vtu", vtu()),
        ("a.vtp", VTP.format(face="0 1 2")),
        ("a.vtk", LEGACY.format(face="0 1 2")),
        ("a.obj", obj("1 2 3")),
        ("b.obj", obj("-3 -2 -1")),  # counted from the last vertex
    ):
        (tmp_path / name).write_text(content)
        mesh = read_mesh(tmp_path / name)
        assert mesh.n_points == 3
        assert mesh.get_cell(0).point_ids == [0, 1, 2]


@pytest.mark.mesh_process
@pytest.mark.parametrize(
    ("name", "content", "vertex"),
    [
        ("a.ply", ply(face="3 0 1 -7"), -7),
        ("a.obj", obj("1 2 900001"), 900000),
        ("a.vtp", VTP.format(face="0 1 3"), 3),
        ("a.vtp", VTP.format(face="0 -1 2"), -1),
        ("a.vtu", vtu(face="0 1 777777777777"), 777777777777),
        ("a.vtu", vtu(face="0 1 -1"), -1),
        ("a.vtk", LEGACY.format(face="0 1 3"), 3),
    ],
)
def test_faces_of_vertices_that_do_not_exist(tmp_path, name, content, vertex):
    message = refused(tmp_path / name, content)
    assert (
        f"has cells with the vertex {vertex}, but its 3 vertices are 0 to 2" in message
    )


@pytest.mark.mesh_process
def test_indices_that_vtk_itself_stumbles_over(tmp_path):
    assert "cannot be read" in refused(tmp_path / "a.obj", obj("1 2 -9"))
    assert "broken?" in refused(tmp_path / "a.ply", ply(face="3 0 1 900000"))


@pytest.mark.mesh_process
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vertices.ply", ply(vertices=2_000_000_000)),
        ("faces.ply", ply(faces=1_000_000_000)),
        ("points.vtu", vtu(vertices=10**11)),
        ("end.vtu", vtu(end=10**9)),
        ("points.vtk", LEGACY.replace("POINTS 3", "POINTS 100000000000")),
        ("cells.vtk", LEGACY.replace("1 4", "1000000000 4000000000")),
    ],
)
def test_claims_beyond_the_file_end_soon(tmp_path, name, content):
    start = time.perf_counter()
    refused(tmp_path / name, content)
    assert time.perf_counter() - start < 30


@pytest.mark.mesh_process
def test_a_reader_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "_SECONDS", 1)
    long = ply(vertices=100_000_000)  # fits into the memory that reading may take
    message = refused(tmp_path / "long.ply", long)
    assert "cannot be read within 2,048 MB and 1 seconds" in message


def test_cells_that_do_not_fit_their_kind(tmp_path):
    path = tmp_path / "a.vtu"
    assert "of the VTK type 10 with 3 to 3 vertices" in refused(path, vtu(kind=10))
    assert "VTK type 200, which is not read" in refused(path, vtu(kind=200))
    assert "VTK type 69, which is not read" in refused(path, vtu(kind=69))
    assert "polyhedra without faces" in refused(
        path, vtu(face="0 1 2 0", end=4, kind=42)
    )


def test_everything_of_a_file_is_kept(tmp_path):
    mesh = pv.Sphere(theta_resolution=8, phi_resolution=8)
    mesh.points = mesh.points.astype(np.float64)
    mesh.point_data["temperature"] = np.random.default_rng(0).normal(size=mesh.n_points)
    mesh.cell_data["part"] = np.arange(mesh.n_cells, dtype=np.int16)
    mesh.cell_data["label"] = [f"wall {i}" for i in range(mesh.n_cells)]
    unit = vtk.vtkStringArray()  # PyVista writes no text beyond ASCII, but VTK does
    unit.SetName("unit")
    unit.InsertNextValue("m²/s²")
    mesh.GetFieldData().AddArray(unit)
    for path, saved in (
        (tmp_path / "a.vtp", mesh),
        (tmp_path / "a.vtu", mesh.cast_to_unstructured_grid()),
    ):
        saved.save(path)
        found = read_mesh(path)
        assert type(found) is type(saved)
        assert found.points.dtype == np.float64
        assert found == pv.read(path)
        assert found.field_data["unit"].tolist() == ["m²/s²"]
        assert found.cell_data["label"].tolist() == mesh.cell_data["label"].tolist()
        assert found.cell_data["part"].dtype == np.int16


def test_names_of_arrays_that_xml_would_read_as_its_own(tmp_path):
    mesh = pv.Plane(i_resolution=1, j_resolution=1)
    mesh.clear_data()
    mesh.cell_data["p > 0 & q"] = [3.0]
    mesh.save(tmp_path / "a.vtk")
    assert read_mesh(tmp_path / "a.vtk").cell_data["p > 0 & q"].tolist() == [3]


def test_polyhedra(tmp_path):
    mesh = pv.examples.cells.Polyhedron()
    mesh.save(tmp_path / "a.vtu", binary=False)
    found = read_mesh(tmp_path / "a.vtu")
    assert found.n_cells == 1
    np.testing.assert_array_equal(found.points, mesh.points)
    assert found.celltypes.tolist() == [vtk.VTK_POLYHEDRON]
    assert found.get_cell(0).n_faces == 4


def mutated(content, rng):
    """The content with some bytes changed, or cut off, or numbers replaced."""
    damaged = bytearray(content)
    if rng.random() < 0.3:
        return bytes(damaged[: rng.integers(len(damaged))])
    for _ in range(rng.integers(1, 9)):
        damaged[rng.integers(len(damaged))] = rng.integers(256)
    return bytes(damaged)


@pytest.mark.mesh_process
@pytest.mark.slow
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("suffix", MESH_SUFFIXES)
def test_damaged_files_are_read_or_refused(tmp_path, suffix, binary):
    mesh = pv.Sphere(theta_resolution=4, phi_resolution=4)
    path = tmp_path / f"body{suffix}"
    saved = mesh.cast_to_unstructured_grid() if suffix == ".vtu" else mesh
    saved.save(path, **({} if suffix == ".obj" else {"binary": binary}))
    content, rng = path.read_bytes(), np.random.default_rng(binary)
    refusals = 0
    for _ in range(20):
        path.write_bytes(mutated(content, rng))
        try:
            read_mesh(path).cell_centers()
        except ValueError as error:
            assert str(error).startswith(f"mesh={str(path)!r} ")
            refusals += 1
    assert refusals >= 3


@pytest.mark.mesh_process
def test_a_process_that_does_not_start_is_no_broken_mesh(tmp_path, monkeypatch):
    pv.Sphere().save(tmp_path / "a.stl")
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(RuntimeError, match="did not start"):
        read_mesh(tmp_path / "a.stl")
