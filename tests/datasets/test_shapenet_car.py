import logging

import numpy as np
import pytest
import pyvista as pv
import torch
from torch_geometric.data import Batch

from torch_geometric_flare import mesh_io
from torch_geometric_flare.datasets import ShapeNetCar


@pytest.fixture
def read_here(monkeypatch):
    """Read meshes in this process, which is faster; return the paths."""
    paths = []

    def read(path):
        paths.append(path)
        return pv.read(path)

    monkeypatch.setattr(mesh_io, "read_mesh", read)
    return paths


def car(seed):
    """Points of a cube among others that belong to no face, its quads, and numbers."""
    rng = np.random.default_rng(seed)
    cube = pv.Cube(x_length=1.0 + seed, clean=True)
    points = rng.normal(size=(12, 3)).astype(np.float32)
    used = rng.permutation(12)[:8]  # in any order
    points[used] = cube.points
    quads = used[cube.regular_faces]
    return points, quads, rng.normal(-10, 50, 12)


def write_vtk(path, points, quads, pressure):
    """Write the text format of the archive."""
    lines = ["# vtk DataFile Version 2.0", "mesh", "ASCII", "DATASET UNSTRUCTURED_GRID"]
    lines += [f"POINTS {len(points)} float", *(f"{x} {y} {z}" for x, y, z in points)]
    lines += [f"CELLS {len(quads)} {5 * len(quads)}"]
    lines += ["4 " + " ".join(map(str, quad)) for quad in quads]
    lines += [f"CELL_TYPES {len(quads)}"] + ["9"] * len(quads)
    lines += [f"POINT_DATA {len(points)}", "SCALARS pressure float 1"]
    lines += ["LOOKUP_TABLE default", *map(str, pressure)]
    path.write_text("\n".join(lines) + "\n")


def write_car(root, fold, name, seed=0, flip=False):
    folder = root / "raw" / "mlcfd_data" / "training_data" / f"param{fold}" / name
    folder.mkdir(parents=True, exist_ok=True)
    points, quads, pressure = car(seed)
    quads = quads[:, ::-1] if flip else quads
    write_vtk(folder / "quadpress_smpl.vtk", points, quads, pressure)
    np.save(folder / "press.npy", pressure)
    (folder / "cd.txt").write_text(f"{0.3 + seed / 7}\n")
    return folder


def write_all(root):
    for fold in range(9):
        write_car(root, fold, f"b{fold}", fold)
    write_car(root, 0, "a0", 10)
    (root / "raw/mlcfd_data/training_data/param0/empty").mkdir()
    (root / "raw/mlcfd_data/training_data/param0/notes.txt").touch()


@pytest.mark.parametrize("flip", [False, True])
def test_every_number(tmp_path, read_here, flip):
    write_car(tmp_path, 0, "1ba30d64", 3, flip)
    (data,) = ShapeNetCar(tmp_path, "test")
    points, quads, pressure = car(3)
    used = np.unique(quads)
    np.testing.assert_allclose(data.pos.numpy(), points[used], atol=1e-6)
    assert torch.equal(data.x, data.pos)
    np.testing.assert_allclose(data.y.numpy(), pressure[used, None], rtol=1e-6)
    cells = quads[:, ::-1] if flip else quads
    np.testing.assert_array_equal(used[data.cells.numpy()], cells)
    # Each corner of a box of 4 × 1 × 1 has a quarter of three faces of areas 1, 4, 4.
    np.testing.assert_allclose(data.area.numpy(), np.full(8, 2.25), rtol=1e-5)
    normal = np.sign(points[used]) / np.sqrt(3)
    np.testing.assert_allclose(data.normal.numpy(), normal, atol=1e-6)
    assert data.drag_coefficient.item() == 0.3 + 3 / 7
    assert data.drag_coefficient.dtype == torch.float64
    assert data.cells.dtype == torch.int64 and data.validate()
    for key in ("x", "pos", "y", "normal", "area"):
        assert data[key].dtype == torch.float32


def test_folds(tmp_path, read_here, caplog):
    write_all(tmp_path)
    with caplog.at_level(logging.WARNING):
        train, test = ShapeNetCar(tmp_path), ShapeNetCar(tmp_path, "test")
        assert "holds 8 samples; the published train split has 789" in caplog.text
        assert "holds 2 samples; the published test split has 100" in caplog.text
        caplog.clear()
        other = ShapeNetCar(tmp_path, "test", fold=4)
        assert caplog.text == ""
    assert len(read_here) == 10  # the folds share what was read
    assert test.sample_names() == ["param0_a0", "param0_b0"]
    assert train.sample_names() == [f"param{fold}_b{fold}" for fold in range(1, 9)]
    assert other.sample_names() == ["param4_b4"]
    assert train.sizes == [8] * 8
    drags = [data.drag_coefficient.item() for data in train]
    assert drags == [0.3 + seed / 7 for seed in range(1, 9)]
    assert len(ShapeNetCar(tmp_path, fold=4)) == 9


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        ShapeNetCar(tmp_path)
    folder = tmp_path / "raw" / "mlcfd_data" / "training_data"
    assert f"'{folder / 'param1'}' is missing" in str(caught.value)
    assert "10.1145/3197517.3201325" in str(caught.value)
    (folder / "param0").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="holds no cars"):
        ShapeNetCar(tmp_path, "test")


@pytest.mark.parametrize("name", ["quadpress_smpl.vtk", "press.npy", "cd.txt"])
def test_missing_file(tmp_path, read_here, name):
    (write_car(tmp_path, 0, "a") / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name}' is missing"):
        ShapeNetCar(tmp_path, "test")


@pytest.mark.parametrize(
    "options", [{"fold": 9}, {"fold": -1}, {"fold": "0"}, {"fold": 0.0}]
)
def test_invalid_fold(tmp_path, options):
    with pytest.raises(ValueError, match="fold must be one of 0 to 8"):
        ShapeNetCar(tmp_path, **options)
    with pytest.raises(ValueError, match="split must be one of"):
        ShapeNetCar(tmp_path, "val")


@pytest.mark.parametrize(
    ("pressure", "message"),
    [
        (np.zeros(11), r"has the shape \(11,\), but the mesh beside it has 12 points"),
        (np.zeros((12, 1)), r"has the shape \(12, 1\)"),
        (np.full(12, np.nan), "not finite"),
        (np.full(12, "a"), "is not a .npy file"),
        (np.full(12, None), "is not a .npy file"),
    ],
)
def test_malformed_pressure(tmp_path, read_here, pressure, message):
    np.save(write_car(tmp_path, 0, "a") / "press.npy", pressure)
    with pytest.raises(ValueError, match=rf"press\.npy'.*{message}"):
        ShapeNetCar(tmp_path, "test")


@pytest.mark.parametrize("text", ["", "a", "0.3 0.4", "nan", "inf"])
def test_malformed_drag(tmp_path, read_here, text):
    (write_car(tmp_path, 0, "a") / "cd.txt").write_text(text)
    with pytest.raises(ValueError, match=r"cd\.txt'"):
        ShapeNetCar(tmp_path, "test")


@pytest.mark.parametrize(
    "mesh", [pv.Cube().triangulate(), pv.ImageData(dimensions=(2, 2, 2))]
)
def test_other_mesh(tmp_path, read_here, mesh):
    mesh = mesh.cast_to_unstructured_grid()
    mesh.save(write_car(tmp_path, 0, "a") / "quadpress_smpl.vtk")
    with pytest.raises(ValueError, match="must be an unstructured mesh of quads alone"):
        ShapeNetCar(tmp_path, "test")


@pytest.mark.mesh_process
def test_broken_mesh_is_read_elsewhere(tmp_path):
    folder = write_car(tmp_path, 0, "a")
    assert len(ShapeNetCar(tmp_path, "test")) == 1
    path = folder / "quadpress_smpl.vtk"
    text = path.read_text()
    for broken in (
        text[:300],
        text.replace("CELLS 6 30", "CELLS 999999999 4999999995"),
    ):
        assert broken != text
        path.write_text(broken)
        with pytest.raises(ValueError, match=r"quadpress_smpl\.vtk"):
            ShapeNetCar(tmp_path, "test", force_reload=True)


def test_interrupted_processing_goes_on(tmp_path, read_here):
    for name in ("a", "b"):
        folder = write_car(tmp_path, 0, name)
    (folder / "cd.txt").write_text("")
    with pytest.raises(ValueError, match=r"cd\.txt"):
        ShapeNetCar(tmp_path, "test")
    assert not list(tmp_path.rglob("manifest.json"))
    (folder / "cd.txt").write_text("0.25")
    dataset = ShapeNetCar(tmp_path, "test")
    assert dataset[1].drag_coefficient.item() == 0.25
    assert [path.parent.name for path in read_here] == ["a", "b", "b"]


def test_cells_of_a_batch(tmp_path, read_here):
    write_car(tmp_path, 0, "a", 1)
    write_car(tmp_path, 0, "b", 2)
    test = ShapeNetCar(tmp_path, "test")
    batch = Batch.from_data_list(list(test))
    assert torch.equal(batch.cells, torch.cat([test[0].cells, test[1].cells + 8]))
