import os
import stat

import numpy as np
import pytest
import pyvista as pv
import torch

from torch_geometric_flare.mesh_io import save_dataset, write_points


def test_round_trip(tmp_path):
    pos = torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.5]])
    fields = {
        "pressure": torch.tensor([[1.5], [-2.0], [1e-3]]),
        "shear": torch.arange(9, dtype=torch.float64).view(3, 3),
        "half": torch.tensor([0.5, 1.0, 2.0], dtype=torch.bfloat16),
        "inlet": torch.tensor([True, False, True]),
        "part": torch.tensor([3, 1, 2]),
    }
    path = write_points(
        tmp_path / "car.vtp",
        pos,
        fields,
        notes={"source": "simulated", "unit": "m²/s²"},
    )
    cloud = pv.read(path)
    assert path == tmp_path / "car.vtp"
    assert cloud.n_points == cloud.n_cells == cloud.n_verts == 3
    assert cloud.verts.tolist() == [1, 0, 1, 1, 1, 2]
    assert cloud.points.tolist() == pos.tolist()
    np.testing.assert_array_equal(
        cloud.point_data["pressure"], np.float32([1.5, -2.0, 1e-3])
    )
    assert cloud.point_data["shear"].tolist() == fields["shear"].tolist()
    assert cloud.point_data["shear"].dtype == np.float64
    assert cloud.point_data["half"].tolist() == [0.5, 1.0, 2.0]
    assert cloud.point_data["inlet"].tolist() == [1, 0, 1]
    assert cloud.point_data["part"].tolist() == [3, 1, 2]
    assert cloud.field_data["source"].tolist() == ["simulated"]
    assert cloud.field_data["unit"].tolist() == ["m²/s²"]


def test_plane_points_lie_at_height_zero_and_gradients_are_left_behind(tmp_path):
    pos = torch.rand(5, 2, requires_grad=True)
    path = write_points(tmp_path / "a.vtp", pos, {"u": pos[:, 0]})
    cloud = pv.read(path)
    np.testing.assert_array_equal(cloud.points[:, :2], pos.detach().numpy())
    assert (cloud.points[:, 2] == 0).all()


@pytest.mark.parametrize("suffix", [".vtp", ".vtu"])
def test_names_of_arrays_that_xml_would_read_as_its_own(tmp_path, suffix):
    mesh = pv.Plane(i_resolution=1, j_resolution=1).triangulate()
    mesh = mesh if suffix == ".vtp" else mesh.cast_to_unstructured_grid()
    mesh.clear_data()
    for name in ("p > 0", "a & b", "<v>", 'the "q"', "two\nlines", "&amp;"):
        mesh.cell_data[name] = np.arange(2.0)
    names = list(mesh.cell_data)
    read = pv.read(save_dataset(mesh, tmp_path / f"a{suffix}"))
    assert sorted(read.cell_data) == sorted(names)
    assert read.cell_data["p > 0"].tolist() == [0, 1]
    assert list(mesh.cell_data) == names


def test_replaces_a_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a.vtp"
    path.write_text("old")
    write_points(str(path), torch.rand(4, 3), {})
    assert pv.read(path).n_points == 4
    assert [p.name for p in tmp_path.iterdir()] == ["a.vtp"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_an_interrupted_write_keeps_the_old_file(tmp_path):
    class Interrupted:
        def save(self, path):
            path.write_text("half")
            raise KeyboardInterrupt

    class Silent:
        def save(self, path):
            pass

    path = tmp_path / "a.vtp"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        save_dataset(Interrupted(), path)
    with pytest.raises(OSError, match=r"could not write .*a\.vtp"):
        save_dataset(Silent(), path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.vtp"]


def test_errors(tmp_path):
    pos = torch.rand(4, 3)
    with pytest.raises(ValueError, match=r"must end in \.vtp, got 'a\.vtk'"):
        write_points("a.vtk", pos, {})
    with pytest.raises(ValueError, match=r"got \[4, 4\]"):
        write_points(tmp_path / "a.vtp", torch.rand(4, 4), {})
    with pytest.raises(ValueError, match=r"fields\['p'\] must have shape \[4\]"):
        write_points(tmp_path / "a.vtp", pos, {"p": torch.rand(3)})
    with pytest.raises(FileNotFoundError, match="missing"):
        write_points(tmp_path / "missing" / "a.vtp", pos, {})
    with pytest.raises(ValueError, match="extension"):
        save_dataset(pv.Sphere(), tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []
