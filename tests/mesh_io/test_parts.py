"""Files with blocks, time steps and grids."""

import numpy as np
import pytest
import pyvista as pv

from torch_geometric_flare.mesh_io import read_mesh


def ball(radius, number):
    mesh = pv.Sphere(radius=radius, theta_resolution=number, phi_resolution=number)
    mesh.clear_data()
    mesh.point_data["p"] = radius * np.arange(mesh.n_points, dtype=np.float32)
    return mesh


def message(path, **part):
    with pytest.raises(ValueError) as caught:
        read_mesh(path, **part)
    text = str(caught.value)
    assert text.startswith(f"mesh={str(path)!r} ") and "\n" not in text
    return text


@pytest.mark.parametrize("suffix", [".vti", ".vtr", ".vts", ".vtk"])
def test_structured_grids(tmp_path, suffix):
    grid = pv.ImageData(dimensions=(3, 4, 2), spacing=(0.5, 1.0, 2.0))
    if suffix == ".vtr":
        grid = grid.cast_to_rectilinear_grid()
    if suffix == ".vts":
        grid = grid.cast_to_structured_grid()
    grid.cell_data["p"] = np.arange(6.0)
    grid.save(tmp_path / f"grid{suffix}")
    found = read_mesh(tmp_path / f"grid{suffix}")
    assert isinstance(found, pv.UnstructuredGrid)
    np.testing.assert_array_equal(found.cell_data["p"], np.arange(6.0))
    assert found.volume == pytest.approx(1 * 3 * 2)


def test_a_block_by_its_name(tmp_path):
    inner = pv.MultiBlock({"nose": ball(0.1, 6), "tail": ball(0.2, 8)})
    path = tmp_path / "all.vtm"
    pv.MultiBlock({"wing": ball(0.5, 10), "body": inner}).save(path)
    for name, radius in (("wing", 0.5), ("tail", 0.2), ("body/nose", 0.1)):
        assert read_mesh(path, block=name).bounds[5] == pytest.approx(radius)
    whole = read_mesh(path, block="body")
    assert whole.n_cells == ball(0.1, 6).n_cells + ball(0.2, 8).n_cells
    assert whole.point_data["p"].max() == pytest.approx(
        ball(0.2, 8).n_points * 0.2 - 0.2
    )
    for part in ({}, {"block": "tai"}):
        for name in ("wing", "body/nose", "body/tail"):
            assert name in message(path, **part)
    pv.MultiBlock({"only": ball(0.3, 6)}).save(tmp_path / "one.vtm")
    assert read_mesh(tmp_path / "one.vtm").bounds[5] == pytest.approx(0.3)
    ball(0.3, 6).save(tmp_path / "plain.vtp")
    assert "block='wing'" in message(tmp_path / "plain.vtp", block="wing")


def test_a_time_step_by_its_value(tmp_path):
    lines = []
    for index, time in enumerate((0.0, 0.1, 2.5)):
        ball(1.0 + index, 6).save(tmp_path / f"step_{index}.vtp")
        lines.append(f'<DataSet timestep="{time}" part="0" file="step_{index}.vtp"/>')
    path = tmp_path / "all.pvd"
    path.write_text(
        '<VTKFile type="Collection" version="0.1"><Collection>'
        + "".join(lines)
        + "</Collection></VTKFile>"
    )
    for time, radius in ((0, 1.0), (0.1, 2.0), (2.5, 3.0)):
        found = read_mesh(path, time=time)
        assert found.bounds[5] == pytest.approx(radius)
        assert found.point_data["p"][1] == pytest.approx(radius)
    for part in ({}, {"time": 0.2}):
        assert "0, 0.1, 2.5" in message(path, **part)
    ball(1.0, 6).save(tmp_path / "one.vtp")
    assert "time=3" in message(tmp_path / "one.vtp", time=3.0)


FOAM = "FoamFile {{ version 2.0; format ascii; class {0}; object {1}; }}\n"


def write_case(folder):
    """One cube of OpenFOAM with an inlet and walls, and a pressure at two times."""
    mesh = folder / "constant" / "polyMesh"
    mesh.mkdir(parents=True)
    points = [(x, y, z) for z in (0, 1) for y in (0, 1) for x in (0, 1)]
    faces = [
        (0, 4, 6, 2),
        (1, 3, 7, 5),
        (0, 1, 5, 4),
        (2, 6, 7, 3),
        (0, 2, 3, 1),
        (4, 5, 7, 6),
    ]
    rows = "\n".join("({} {} {})".format(*p) for p in points)
    (mesh / "points").write_text(
        FOAM.format("vectorField", "points") + f"8\n(\n{rows}\n)\n"
    )
    rows = "\n".join("4({} {} {} {})".format(*f) for f in faces)
    (mesh / "faces").write_text(FOAM.format("faceList", "faces") + f"6\n(\n{rows}\n)\n")
    owners = "\n".join("0" * 6)
    (mesh / "owner").write_text(
        FOAM.format("labelList", "owner") + f"6\n(\n{owners}\n)\n"
    )
    (mesh / "neighbour").write_text(FOAM.format("labelList", "neighbour") + "0\n(\n)\n")
    (mesh / "boundary").write_text(
        FOAM.format("polyBoundaryMesh", "boundary")
        + "2\n(\ninlet { type patch; nFaces 1; startFace 0; }\n"
        + "walls { type wall; nFaces 5; startFace 1; }\n)\n"
    )
    (folder / "system").mkdir()
    (folder / "system" / "controlDict").write_text(
        FOAM.format("dictionary", "controlDict")
        + "startTime 0; endTime 0.5; deltaT 0.5; writeInterval 1; "
        + "writeControl timeStep; writeFormat ascii;\n"
    )
    for time, value in (("0", 2), ("0.5", 7)):
        (folder / time).mkdir()
        (folder / time / "p").write_text(
            FOAM.format("volScalarField", "p")
            + f"dimensions [0 2 -2 0 0 0 0];\ninternalField uniform {value};\n"
            + "boundaryField { inlet { type fixedValue; value uniform 3; }\n"
            + "walls { type zeroGradient; } }\n"
        )
    (folder / "case.foam").write_text("")
    return folder / "case.foam"


def test_a_case_of_openfoam(tmp_path):
    path = write_case(tmp_path)
    whole = read_mesh(path, block="internalMesh", time=0.5)
    assert whole.n_cells == 1
    assert whole.cell_data["p"].tolist() == [7.0]
    assert read_mesh(path, block="internalMesh", time=0).cell_data["p"].tolist() == [
        2.0
    ]
    inlet = read_mesh(path, block="inlet", time=0.5)
    assert inlet.n_cells == 1
    assert inlet.bounds[:2] == (0.0, 0.0)
    assert read_mesh(path, block="walls", time=0.5).n_cells == 5
    assert "0, 0.5" in message(path)
    assert "boundary/walls" in message(path, time=0)


GMSH = """$MeshFormat
2.2 0 8
$EndMeshFormat
$PhysicalNames
2
1 1 "edge"
2 2 "plate"
$EndPhysicalNames
$Nodes
4
1 0 0 0
2 2 0 0
3 2 1 0
4 0 1 0
$EndNodes
$Elements
3
1 1 2 1 1 1 2
2 2 2 2 1 1 2 3
3 2 2 2 1 1 3 4
$EndElements
"""
ABAQUS = """*NODE
1, 0., 0., 0.
2, 2., 0., 0.
3, 2., 1., 0.
4, 0., 1., 0.
*ELEMENT, TYPE=S3, ELSET=LEFT
1, 1, 3, 4
*ELEMENT, TYPE=S3, ELSET=RIGHT
2, 1, 2, 3
"""


def test_gmsh_and_abaqus(tmp_path):
    (tmp_path / "a.msh").write_text(GMSH)
    (tmp_path / "a.inp").write_text(ABAQUS)
    plate = read_mesh(tmp_path / "a.msh", block="plate")
    assert (plate.n_cells, plate.area) == (2, pytest.approx(2.0))
    edge = read_mesh(tmp_path / "a.msh", block="edge")
    assert (edge.n_cells, edge.length) == (1, pytest.approx(2.0))
    assert read_mesh(tmp_path / "a.msh").n_cells == 2  # without the line beside them
    assert read_mesh(tmp_path / "a.inp").area == pytest.approx(2.0)
    assert "edge, plate" in message(tmp_path / "a.msh", block="wing")


@pytest.mark.mesh_process
def test_a_missing_meshio_is_named(tmp_path, monkeypatch):
    missing = "raise ModuleNotFoundError('meshio', name='meshio')"
    (tmp_path / "meshio.py").write_text(missing)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # of the process that reads
    (tmp_path / "a.msh").write_text(GMSH)
    assert "pip install meshio" in message(tmp_path / "a.msh")


AVS = """4 2 1 0 0
1 0 0 0
2 2 0 0
3 2 1 0
4 0 1 0
1 0 tri 1 2 3
2 0 tri 1 3 4
1 1
p, Pa
1 1.5
2 2.5
3 3.5
4 4.5
"""


def test_avs(tmp_path):
    (tmp_path / "a.inp").write_text(AVS)
    found = read_mesh(tmp_path / "a.inp")
    assert found.n_cells == 2
    np.testing.assert_allclose(found.point_data["p"], [1.5, 2.5, 3.5, 4.5])
