import numpy as np
import pytest
import pyvista as pv

from torch_geometric_flare.visualization import MESH_SUFFIXES, read_mesh


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
    with pytest.raises(ValueError, match="body.vtk' has 2 vertices .* nan or inf"):
        read_mesh(str(tmp_path / "body.vtk"))


def test_what_is_no_mesh_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.stl' is no file"):
        read_mesh(tmp_path / "absent.stl")
    for name, message in (
        ("note.txt", "is none of .stl"),
        ("broken.vtp", "cannot be read: broken"),
        ("broken.stl", "holds no surface|cannot be read"),
    ):
        (tmp_path / name).write_text("not a mesh\n")
        with pytest.raises(ValueError, match=message):
            read_mesh(tmp_path / name)
    pv.ImageData(dimensions=(2, 2, 2)).save(tmp_path / "grid.vtk")
    with pytest.raises(ValueError, match="holds no surface or unstructured mesh"):
        read_mesh(tmp_path / "grid.vtk")
