"""What VTK does not show is not data."""

import numpy as np
import pytest
import pyvista as pv
import vtk

from torch_geometric_flare.datasets import MeshFolder
from torch_geometric_flare.mesh_io import read_mesh, visible_part
from torch_geometric_flare.metrics import mesh_forces

GHOSTS = "vtkGhostType"


def numbered(mesh):
    """The mesh with the number of each cell and point, and other arrays."""
    mesh.clear_data()
    mesh.cell_data["cell"] = np.arange(mesh.n_cells)
    mesh.point_data["point"] = np.arange(mesh.n_points)
    mesh.point_data["at"] = np.asarray(mesh.points)
    mesh.field_data["speed"] = [38.9]
    return mesh


def surface():
    return numbered(pv.Sphere(theta_resolution=6, phi_resolution=6))


def volume():
    image = pv.ImageData(dimensions=(4, 3, 3))
    return numbered(image.cast_to_unstructured_grid())


@pytest.mark.parametrize("make", [surface, volume])
@pytest.mark.parametrize("flag", [1, 8, 32, 33])
def test_ghost_and_blanked_cells(make, flag, tmp_path):
    mesh = make()
    hidden = [0, 3, 4]
    mesh.cell_data[GHOSTS] = np.zeros(mesh.n_cells, np.uint8)
    mesh.cell_data[GHOSTS][hidden] = flag
    path = tmp_path / ("m.vtp" if make is surface else "m.vtu")
    mesh.save(path)
    for part in (visible_part(mesh), read_mesh(path)):
        kept = np.setdiff1d(np.arange(mesh.n_cells), hidden)
        assert type(part) is type(mesh)
        np.testing.assert_array_equal(part.cell_data["cell"], kept)
        np.testing.assert_allclose(
            part.cell_centers().points, mesh.cell_centers().points[kept], atol=1e-6
        )
        np.testing.assert_array_equal(part.point_data["at"], part.points)
        assert part.field_data["speed"][0] == 38.9
        assert set(part.cell_data) == {"cell"} and set(part.point_data) == {
            "at",
            "point",
        }
    assert mesh.n_cells == make().n_cells


def test_other_flags_hide_nothing():
    mesh = surface()
    mesh.cell_data[GHOSTS] = np.full(mesh.n_cells, 16, np.uint8)  # at the border
    mesh.point_data[GHOSTS] = np.full(mesh.n_points, 1, np.uint8)  # of a neighbour too
    assert visible_part(mesh) is mesh


@pytest.mark.parametrize("make", [surface, volume])
def test_blanked_points_hide_their_cells(make):
    mesh = make()
    mesh.point_data[GHOSTS] = np.zeros(mesh.n_points, np.uint8)
    mesh.point_data[GHOSTS][2] = 2
    expected = [k for k in range(mesh.n_cells) if 2 not in mesh.get_cell(k).point_ids]
    assert len(expected) < mesh.n_cells
    part = visible_part(mesh)
    assert part.cell_data["cell"].tolist() == expected
    assert 2 not in part.point_data["point"]


def test_vertices_lines_and_loose_points_beside_faces(tmp_path):
    points = np.array(
        [[9, 9, 9], [0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [5, 5, 5]], float
    )
    cells = [1, 5, 2, 1, 2, 3, 1, 2, 3, 3, 1, 3, 4]
    types = [pv.CellType.VERTEX, pv.CellType.LINE, *[pv.CellType.TRIANGLE] * 2]
    grid = numbered(pv.UnstructuredGrid(cells, types, points))
    poly = pv.PolyData(points, verts=[1, 5], lines=[2, 1, 2], faces=cells[5:])
    for mesh in (grid, numbered(poly)):
        path = tmp_path / ("m.vtu" if mesh is grid else "m.vtp")
        mesh.save(path)
        for part in (visible_part(mesh), read_mesh(path)):
            assert part.cell_data["cell"].tolist() == [2, 3]
            assert part.point_data["point"].tolist() == [1, 2, 3, 4]
            assert part.compute_cell_sizes().cell_data["Area"].tolist() == [0.5, 0.5]
            assert part.points.dtype == np.float64


def test_loose_points_of_a_volume_and_empty_cells():
    mesh = volume()
    types = [*mesh.celltypes, vtk.VTK_EMPTY_CELL]
    points = np.vstack((mesh.points, [[9, 9, 9]]))
    padded = numbered(pv.UnstructuredGrid([*mesh.cells, 0], types, points))
    part = visible_part(padded)
    assert part.n_cells == mesh.n_cells and part.n_points == mesh.n_points
    np.testing.assert_array_equal(part.cell_data["cell"], np.arange(mesh.n_cells))


@pytest.mark.parametrize("make", [surface, volume])
def test_a_mesh_of_data_alone_is_that_mesh(make):
    mesh = make()
    assert visible_part(mesh) is mesh
    lines = pv.Line()
    assert visible_part(lines) is lines
    cloud = pv.PolyData(np.random.default_rng(0).random((5, 3)))
    assert visible_part(cloud) is cloud


def test_nothing_is_left():
    mesh = surface()
    mesh.cell_data[GHOSTS] = np.full(mesh.n_cells, 32, np.uint8)
    with pytest.raises(ValueError, match="hidden"):
        visible_part(mesh)


def test_normals_stay_normals():
    mesh = pv.Sphere(theta_resolution=6, phi_resolution=6)
    mesh.cell_data[GHOSTS] = np.zeros(mesh.n_cells, np.uint8)
    mesh.cell_data[GHOSTS][0] = 32
    part = visible_part(mesh)
    assert part.point_data.active_normals_name == mesh.point_data.active_normals_name
    assert part.point_data.active_normals_name is not None


def test_repeated_cells_feel_no_second_force():
    mesh = pv.Box((0, 1, 0, 1, 0, 1), level=2, quads=False).clean()
    mesh.clear_data()
    half = mesh.extract_cells(range(mesh.n_cells // 2)).extract_surface(
        algorithm="dataset_surface"
    )
    both = mesh.append_polydata(half)
    both.clear_data()
    both.point_data["pressure"] = -both.points[:, 2].astype(float)
    both.cell_data[GHOSTS] = np.zeros(both.n_cells, np.uint8)
    both.cell_data[GHOSTS][mesh.n_cells :] = 1
    found = mesh_forces(both, speed=1.0, reference_area=2.0)
    assert found["lift"] == pytest.approx(1, rel=1e-6)
    assert found["drag"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("location", ["cell", "point"])
def test_samples_hold_data_alone(location, tmp_path):
    mesh = surface()
    mesh.cell_data[GHOSTS] = np.zeros(mesh.n_cells, np.uint8)
    mesh.cell_data[GHOSTS][:2] = 32
    mesh.save(tmp_path / "m.vtp")
    (data,) = MeshFolder(
        tmp_path, fields=[location], location=location, fractions=(1, 0, 0)
    )
    part = visible_part(mesh)
    values = (part.cell_data if location == "cell" else part.point_data)[location]
    assert data.y[:, 0].tolist() == values.tolist()
    assert float(data.area.sum()) == pytest.approx(part.area, rel=1e-5)
