import math

import numpy as np
import pytest
import pyvista as pv
import torch

from torch_geometric_flare.mesh_io import mesh_areas, mesh_normals


def sphere(radius=2.0):
    return pv.Sphere(radius=radius, theta_resolution=40, phi_resolution=40)


def flipped(mesh):
    return pv.PolyData.from_regular_faces(mesh.points, mesh.regular_faces[:, ::-1])


@pytest.mark.parametrize("change", [lambda m: m, flipped])
@pytest.mark.parametrize("grid", [False, True])
def test_normals_of_a_closed_surface_point_outward(change, grid):
    mesh = change(sphere())
    if grid:
        mesh = mesh.cast_to_unstructured_grid()
    points = torch.tensor(np.asarray(mesh.points))
    torch.testing.assert_close(mesh_normals(mesh), points / 2, atol=0.01, rtol=0)
    centres = torch.tensor(np.asarray(mesh.cell_centers().points, np.float32))
    normals = mesh_normals(mesh, cells=True)
    directions = torch.nn.functional.normalize(centres)
    torch.testing.assert_close(normals, directions, atol=0.04, rtol=0)


def test_areas():
    # A unit square as two triangles, and a square of side 2 beside it.
    points = [
        [0, 0, 0],
        [1, 0, 0],
        [1, 1, 0],
        [0, 1, 0],
        [3, 0, 0],
        [3, 2, 0],
        [1, 2, 0],
    ]
    faces = [3, 0, 1, 2, 3, 0, 2, 3, 4, 1, 4, 5, 6]
    mesh = pv.PolyData(np.array(points, float), faces=faces)
    assert mesh_areas(mesh, cells=True).tolist() == [[0.5], [0.5], [4.0]]
    third = 1 / 6
    expected = [2 * third, third + 1, 2 * third, third, 1.0, 1.0, 1.0]
    torch.testing.assert_close(mesh_areas(mesh), torch.tensor(expected).unsqueeze(1))
    assert mesh_normals(mesh, cells=True).tolist() == [[0, 0, 1]] * 3


def test_areas_add_up_and_vertices_without_faces_have_none():
    mesh = sphere()
    loose = pv.PolyData(np.vstack((mesh.points, [[9.0, 9.0, 9.0]])), faces=mesh.faces)
    areas = mesh_areas(loose)
    assert areas.sum().item() == pytest.approx(16 * math.pi, rel=0.01)
    assert areas[-1].item() == 0
    assert mesh_normals(loose)[-1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("compute", [mesh_normals, mesh_areas])
def test_what_has_no_faces_is_refused(compute):
    volume = pv.ImageData(dimensions=(3, 3, 3)).cast_to_unstructured_grid()
    for mesh in (volume, pv.Line(), sphere() + pv.Line()):
        with pytest.raises(ValueError, match="extract its surface"):
            compute(mesh)


@pytest.mark.parametrize("start", range(6))
def test_concave_faces(start):
    outline = [[0, 0, 0], [2, 0, 0], [2, 1, 0], [1, 1, 0], [1, 2, 0], [0, 2, 0]]
    mesh = pv.PolyData(
        np.roll(np.array(outline, float), start, 0), faces=[6, *range(6)]
    )
    assert mesh_areas(mesh, cells=True).tolist() == [[3.0]]
    assert mesh_areas(mesh).sum().item() == pytest.approx(3)
    assert mesh_normals(mesh, cells=True).tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("cells", [True, False])
@pytest.mark.parametrize("name", ["Normals", "normal"])
def test_normals_of_the_mesh_count(cells, name):
    mesh = sphere()
    mesh.clear_data()
    computed = mesh_normals(mesh, cells=cells)
    data = mesh.cell_data if cells else mesh.point_data
    own = -3.0 * computed.double().numpy()
    own[:2] = [[0, 0, 0], [float("nan"), 1, 1]]  # where it has none
    data[name] = own
    found = mesh_normals(mesh, cells=cells)
    torch.testing.assert_close(found[2:], -computed[2:])
    # A vertex takes the direction of its neighbours, a face that of its winding.
    torch.testing.assert_close(found[:2], computed[:2] if cells else -computed[:2])
