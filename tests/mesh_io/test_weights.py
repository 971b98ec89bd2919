import numpy as np
import pytest
import pyvista as pv
import torch

from torch_geometric_flare.mesh_io import mesh_weights


def test_areas_of_a_surface():
    plane = pv.Plane(i_size=2, j_size=3, i_resolution=2, j_resolution=3)
    assert torch.allclose(mesh_weights(plane, cells=True), torch.ones(6))
    at_points = mesh_weights(plane).reshape(4, 3)
    wanted = torch.tensor([0.25, 0.5, 0.25]), torch.tensor([0.5, 1, 0.5])
    assert torch.allclose(at_points[0], wanted[0])
    assert torch.allclose(at_points[1], wanted[1])


def test_volumes_of_a_volume():
    grid = pv.ImageData(dimensions=(2, 2, 3), spacing=(1, 2, 3))
    grid = grid.cast_to_unstructured_grid()
    assert torch.allclose(mesh_weights(grid, cells=True), torch.full((2,), 6.0))
    at_points = mesh_weights(grid).reshape(3, 4)
    assert torch.allclose(at_points[0], torch.full((4,), 0.75))
    assert torch.allclose(at_points[1], torch.full((4,), 1.5))


def test_faces_of_a_volume_do_not_count():
    tetrahedron = pv.UnstructuredGrid(
        {
            pv.CellType.TETRA: np.array([[0, 1, 2, 3]]),
            pv.CellType.TRIANGLE: np.array([[0, 1, 2]]),
        },
        np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float),
    )
    weights = mesh_weights(tetrahedron, cells=True)
    assert sorted(weights.tolist()) == pytest.approx([0, 1 / 6])
    assert torch.allclose(mesh_weights(tetrahedron), torch.full((4,), 1 / 24))


def test_lengths_of_curves():
    line = pv.lines_from_points(np.array([[0, 0, 0], [1, 0, 0], [4, 0, 0]], float))
    assert torch.allclose(mesh_weights(line, cells=True), torch.tensor([1.0, 3]))
    assert torch.allclose(mesh_weights(line), torch.tensor([0.5, 2, 1.5]))


def test_points_alone_have_none():
    cloud = pv.PolyData(np.random.default_rng(0).random((5, 3)))
    assert mesh_weights(cloud) is None
    assert mesh_weights(pv.UnstructuredGrid()) is None
    collapsed = pv.PolyData(np.zeros((3, 3)), faces=[3, 0, 1, 2])
    assert mesh_weights(collapsed, cells=True) is None


def test_a_grid_of_vtk_has_volumes():
    grid = pv.ImageData(dimensions=(3, 3, 3), spacing=(0.5, 1, 1))
    assert mesh_weights(grid, cells=True).tolist() == [0.5] * 8
