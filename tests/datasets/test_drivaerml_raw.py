import os
import pickle
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import pyvista as pv
import torch
from torch_geometric.loader import DataLoader

from torch_geometric_flare import mesh_io
from torch_geometric_flare.datasets import DrivAerMLRaw
from torch_geometric_flare.metrics import force_coefficients

LOWER, UPPER = map(np.array, DrivAerMLRaw.coordinate_bounds)
TABLE = "Cd, Cl, Clf, Clr, Cs\n0.31092, 0.06938, -0.0512, 0.1206, 0.011\n"


@pytest.fixture
def read_here(monkeypatch):
    """Read meshes in this process, which is faster; return the paths."""
    paths = []

    def read(path):
        paths.append(Path(path).name)
        return pv.read(path)

    monkeypatch.setattr(mesh_io, "read_mesh", read)
    return paths


def car(run, flip=False):
    """A box of 24 quads of unequal sizes, with fields."""
    rng = np.random.default_rng(run)
    mesh = pv.Box((0.0, 4.0, -1.0, 1.0, 0.0, 1.0 + run / 100), level=1, quads=True)
    if flip:
        faces = mesh.regular_faces[:, ::-1].copy()
        mesh = pv.PolyData.from_regular_faces(mesh.points, faces)
    mesh.clear_data()
    mesh.cell_data["pMeanTrim"] = rng.normal(-200, 250, 24).astype(np.float32)
    mesh.cell_data["CpMeanTrim"] = mesh.cell_data["pMeanTrim"] / 756.18
    shear = rng.normal(0, 1, (24, 3)).astype(np.float32)
    mesh.cell_data["wallShearStressMeanTrim"] = shear
    return mesh


def write_run(root, run, mesh=None, table=TABLE, **options):
    folder = root / "raw" / "drivaerml" / f"run_{run}"
    folder.mkdir(parents=True, exist_ok=True)
    mesh = car(run, **options) if mesh is None else mesh
    mesh.save(folder / f"boundary_{run}.vtp")
    (folder / f"force_mom_constref_{run}.csv").write_text(table)
    return folder / f"boundary_{run}.vtp"


@pytest.mark.parametrize("flip", [False, True])
def test_every_number_of_all_cells(tmp_path, read_here, flip):
    write_run(tmp_path, 3, flip=flip)
    names = ("wall_shear_stress", "pressure")
    (data,) = DrivAerMLRaw(tmp_path, num_points=None, fields=names)
    mesh = car(3)
    points = np.asarray(mesh.points, np.float64)[mesh.regular_faces]
    centers = points.mean(1)
    np.testing.assert_allclose(data.pos.numpy(), centers, atol=1e-6)
    x = (centers - LOWER) / (UPPER - LOWER)
    np.testing.assert_allclose(data.x.numpy(), x, atol=1e-6)
    outside = centers - [2.0, 0.0, 0.515]
    axis = abs(outside / [2.0, 1.0, 0.515]).argmax(1)
    normal = np.zeros((24, 3))
    normal[np.arange(24), axis] = np.sign(outside[np.arange(24), axis])
    np.testing.assert_allclose(data.normal.numpy(), normal, atol=1e-6)
    area = np.array([1.0 * 0.515, 2.0 * 0.515, 2.0])[axis]
    np.testing.assert_allclose(data.area.numpy(), area, rtol=1e-6)
    pressure, shear = (
        mesh.cell_data[name].reshape(24, -1)
        for name in ("pMeanTrim", "wallShearStressMeanTrim")
    )
    np.testing.assert_array_equal(data.y.numpy(), np.hstack([shear, pressure]))
    np.testing.assert_array_equal(data.wall_shear_stress.numpy(), shear)
    found = {key: data[key].item() for key in ("cd", "cl", "clf", "clr", "cs")}
    numbers = (0.31092, 0.06938, -0.0512, 0.1206, 0.011)
    assert found == dict(zip(("cd", "cl", "clf", "clr", "cs"), numbers, strict=True))
    assert data.cd.dtype == torch.float64 and data.cd.shape == (1,)
    assert data.run == 3 and data.num_nodes == 24
    for key in ("x", "pos", "y", "normal", "area", "wall_shear_stress"):
        assert data[key].dtype == torch.float32 and data[key].is_contiguous()
    assert data.validate()


def test_drag_of_a_drawing_does_not_shrink(tmp_path, read_here):
    mesh = car(1)
    mesh.cell_data["pMeanTrim"] = np.where(
        mesh.cell_centers().points[:, 0] < 1e-6, 300, 0
    )
    write_run(tmp_path, 1, mesh)
    exact = 300 * 2 * 1.01 / (0.5 * 38.889**2 * 2.17)

    def drag(**options):
        (data,) = DrivAerMLRaw(tmp_path, **options)
        return data, force_coefficients(
            data.y, data.normal, data.area, speed=38.889, reference_area=2.17
        ).drag.item()

    assert drag(num_points=None)[1] == pytest.approx(exact, rel=1e-6)
    for sampling in ("area", "uniform"):
        found = []
        for seed in range(60):
            data, value = drag(num_points=8, sampling=sampling, seed=seed)
            assert data.num_nodes == 8
            if sampling == "area":
                surface = 2 * (2 * 1.01 + 4 * 1.01 + 8)
                assert data.area.sum().item() == pytest.approx(surface, rel=1e-5)
            found.append(value)
        assert abs(np.mean(found) - exact) < 4 * np.std(found) / np.sqrt(60)
        assert np.mean(found) > 0.5 * exact


def test_drawing_depends_on_seed_and_run(tmp_path, read_here):
    for run in (2, 1):
        write_run(tmp_path, run)
    first = DrivAerMLRaw(tmp_path, num_points=5)
    again = DrivAerMLRaw(tmp_path, num_points=5, runs=[2], seed=0)
    other = DrivAerMLRaw(tmp_path, num_points=5, seed=1)
    assert first.sizes == [5, 5] and [data.run for data in first] == [1, 2]
    assert torch.equal(first[1].pos, again[0].pos)
    assert not torch.equal(first[1].pos, other[1].pos)
    assert read_here == [f"boundary_{run}.vtp" for run in (1, 2, 1, 2)]


def test_meshes_are_read_once(tmp_path, read_here):
    for run in (1, 2):
        path = write_run(tmp_path, run)
    content = path.read_bytes()
    path.write_bytes(b"cut short")
    with pytest.raises(Exception, match=r"boundary_2|cannot|broken|Unable|VTK|not"):
        DrivAerMLRaw(tmp_path, num_points=5)
    assert not list(tmp_path.rglob("manifest.json"))
    path.write_bytes(content)
    del read_here[:]
    dataset = DrivAerMLRaw(tmp_path, num_points=5)
    assert read_here == ["boundary_2.vtp"]  # the run goes on
    both = DrivAerMLRaw(tmp_path, num_points=5, fields=("wall_shear_stress",))
    assert both[0].y.shape == (5, 3)
    assert len(list(dataset)) == 2 and read_here == ["boundary_2.vtp"]

    os.utime(path, (1, 1))
    DrivAerMLRaw(tmp_path, num_points=5)
    assert read_here == ["boundary_2.vtp"]  # its bytes are the same
    path.write_bytes(content + b"\n")
    DrivAerMLRaw(tmp_path, "test", runs=(1, 2), num_points=5)
    assert read_here == ["boundary_2.vtp", "boundary_2.vtp"]  # it had changed
    DrivAerMLRaw(tmp_path, num_points=5, force_reload=True)
    assert len(read_here) == 4

    converted = dataset.converted_dir / "run_2.npz"
    converted.write_bytes((dataset.converted_dir / "run_1.npz").read_bytes())
    with pytest.raises(ValueError, match=r"run_2\.npz' has changed since"):
        dataset[1]


def test_splits(tmp_path, read_here):
    for run in (1, 4, 10, 11, 12, 167):  # 167 has no results
        write_run(tmp_path, run)
    (tmp_path / "raw" / "drivaerml" / "run_5").mkdir()
    runs = {
        split: [data.run for data in DrivAerMLRaw(tmp_path, split, num_points=4)]
        for split in ("train", "val", "test")
    }
    assert runs == {"train": [1, 10], "val": [4], "test": [11, 12]}
    chosen = DrivAerMLRaw(tmp_path, runs=(167, 1), num_points=4)
    assert [data.run for data in chosen] == [167, 1]
    (batch,) = DataLoader(chosen, batch_size=2)
    assert batch.cd.tolist() == [0.31092, 0.31092] and batch.cd.dtype == torch.float64
    assert len(pickle.loads(pickle.dumps(chosen))[0].area) == 4


def test_sizes_of_the_splits():
    splits = [DrivAerMLRaw.split_of(run) for run in range(1, 502)]
    for split, size in DrivAerMLRaw.published_sizes.items():
        assert splits.count(split) == size
    assert splits.count(None) == 17


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "all"}, r"split must be one of \['train', 'val', 'test'\]"),
        ({"runs": ()}, "runs must be different integers"),
        ({"runs": (1, 1)}, "runs must be different integers"),
        ({"runs": (0,)}, "runs must be different integers"),
        ({"runs": (1.0,)}, "runs must be different integers"),
        ({"runs": "12"}, "runs must be different integers"),
        ({"num_points": 0}, "num_points must be at least 1 or None, got 0"),
        ({"sampling": "random"}, "sampling must be 'area' or 'uniform'"),
        ({"seed": -1}, "seed must not be negative"),
        ({"fields": ("cp",)}, "fields must be a tuple of names among"),
    ],
)
def test_invalid_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        DrivAerMLRaw(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_missing(tmp_path, read_here):
    with pytest.raises(FileNotFoundError, match=r"no mesh run_N/boundary_N\.vtp") as e:
        DrivAerMLRaw(tmp_path)
    assert "hf download neashton/drivaerml" in str(e.value)
    with pytest.raises(ConnectionError, match="'run_1/boundary_1.vtp' is missing"):
        DrivAerMLRaw(tmp_path, runs=(1,))
    path = write_run(tmp_path, 1)
    dataset = DrivAerMLRaw(tmp_path, num_points=4)
    path.with_name("force_mom_constref_1.csv").unlink()
    with pytest.raises(ConnectionError, match="force_mom_constref_1.csv' is missing"):
        DrivAerMLRaw(tmp_path, num_points=4)
    with pytest.raises(FileNotFoundError, match="is missing: place it there"):
        dataset.process()


def test_fetching_named_runs(tmp_path, monkeypatch, read_here):
    source = write_run(tmp_path / "hub", 7).parent
    calls = []

    def download(repo_id, filename, repo_type, revision, local_dir):
        calls.append((repo_id, filename))
        target = Path(local_dir, filename)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((source / target.name).read_bytes())
        return str(target)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert DrivAerMLRaw(tmp_path, runs=(7,), num_points=4)[0].run == 7
    names = ("boundary_7.vtp", "force_mom_constref_7.csv")
    assert calls == [("neashton/drivaerml", f"run_7/{name}") for name in names]
    folder = tmp_path / "raw" / "drivaerml" / "run_7"
    assert (folder / "boundary_7.vtp.json").exists()


def without(name):
    mesh = car(1)
    del mesh.cell_data[name]
    return mesh


def changed(name, values):
    mesh = car(1)
    mesh.cell_data[name] = values
    return mesh


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: without("pMeanTrim"), "lacks the cell data pMeanTrim, and has"),
        (lambda: without("wallShearStressMeanTrim"), "lacks the cell data wallShear"),
        (
            lambda: changed("pMeanTrim", np.full(24, np.nan)),
            "pMeanTrim has values .* finite",
        ),
        (
            lambda: changed("pMeanTrim", np.zeros((24, 3))),
            r"shape \(n, 1\), got \(24, 3\)",
        ),
        (
            lambda: changed("wallShearStressMeanTrim", np.zeros(24)),
            r"shape \(n, 3\), got",
        ),
        (lambda: changed("pMeanTrim", ["a"] * 24), "pMeanTrim holds no numbers"),
        (lambda: pv.Plane(), "encloses no volume"),
        (lambda: pv.PolyData(np.eye(3)), "not polygons"),
    ],
)
def test_malformed_mesh(tmp_path, monkeypatch, make, message):
    write_run(tmp_path, 1)
    monkeypatch.setattr(mesh_io, "read_mesh", lambda path: make())
    with pytest.raises(ValueError, match=rf"boundary_1\.vtp'.*{message}"):
        DrivAerMLRaw(tmp_path, num_points=4)


def test_too_few_cells(tmp_path, read_here):
    write_run(tmp_path, 1)
    with pytest.raises(ValueError, match="boundary_1.*num_points=25 exceeds the 24"):
        DrivAerMLRaw(tmp_path, num_points=25)


@pytest.mark.parametrize(
    "table",
    ["", "Cd,Cl\n", "Cd,Cl\n0.3\n", "Cd,Cl\n0.3,a\n", "Cd,Cl\n0.3,nan\n", "Cd\n0.3\n"]
    + ["Cd,Cl\n0.3,0.1\n0.3,0.1\n", "Cd,Cl\n0.3,0.1\x00\n"],
)
def test_malformed_table(tmp_path, read_here, table):
    write_run(tmp_path, 1, table=table)
    with pytest.raises(ValueError, match=r"force_mom_constref_1\.csv'"):
        DrivAerMLRaw(tmp_path, num_points=4)


def test_only_drag_and_lift(tmp_path, read_here):
    write_run(tmp_path, 1, table="run,Cd,Cl\n1,0.3,-0.1\n")
    data = DrivAerMLRaw(tmp_path, num_points=4)[0]
    assert (data.cd.item(), data.cl.item(), "cs" in data) == (0.3, -0.1, False)


@pytest.mark.mesh_process
def test_broken_file_is_read_elsewhere(tmp_path):
    path = write_run(tmp_path, 1)
    assert DrivAerMLRaw(tmp_path, num_points=4)[0].num_nodes == 4
    content = path.read_bytes()
    for broken in (content[: len(content) // 2], b""):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"boundary_1\.vtp"):
            DrivAerMLRaw(tmp_path, num_points=4, force_reload=True)


def test_runs_are_the_same_in_any_type(tmp_path, read_here):
    write_run(tmp_path, 3)
    write_run(tmp_path, 5)
    first = DrivAerMLRaw(tmp_path, runs=(5, 3), num_points=4)
    second = DrivAerMLRaw(tmp_path, runs=np.array([5, 3]), num_points=4)
    assert second.processed_dir == first.processed_dir and second[0].run == 5


def test_table_with_byte_order_mark(tmp_path, read_here):
    write_run(tmp_path, 3, table="\ufeff" + TABLE)
    assert DrivAerMLRaw(tmp_path, num_points=4)[0].cd.item() == 0.31092


def test_further_runs_do_not_read_the_others_again(tmp_path, read_here):
    write_run(tmp_path, 3)
    dataset = DrivAerMLRaw(tmp_path, num_points=4)
    write_run(tmp_path, 5)
    with pytest.raises(ValueError, match="1 new, such as 'run_5'. Delete '.*json'"):
        DrivAerMLRaw(tmp_path, num_points=4)
    Path(dataset.processed_paths[0]).unlink()
    read_here.clear()
    assert len(DrivAerMLRaw(tmp_path, num_points=4)) == 2
    assert read_here == ["boundary_5.vtp"]
