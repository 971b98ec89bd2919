import io
import logging
import pickle
import shutil
import tarfile

import huggingface_hub
import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from tests.datasets.formats import halve
from torch_geometric_flare.datasets.drivaerml import DrivAerML
from torch_geometric_flare.fields import Field

NAME = "drivaerml_surface_presampled_40k"
LOWER = np.array([-0.9425, -1.1314, -0.3176])
FIELDS = {"x", "pos", "y", "wall_shear_stress", "run"}
UPPER = np.array([4.1325, 1.1317, 1.2445])


def arrays_of(run, size=5):
    rng = np.random.default_rng(run)
    centers = rng.uniform(LOWER, UPPER, (size, 3)).astype(np.float32)
    fields = rng.normal(-200.0, 250.0, (size, 4)).astype(np.float32)
    return {"surface_mesh_centers": centers, "surface_fields": fields}


def write_run(folder, run, arrays=None):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"run_{run}.npz"
    np.savez(path, **(arrays if arrays is not None else arrays_of(run, 3 + run % 3)))
    return path


def write_folder(root, runs=(10, 2, 101), test_runs=(7, 3)):
    for run in runs:
        write_run(root / "raw" / NAME / "train", run)
    for run in test_runs:
        write_run(root / "raw" / NAME / "test", run)
    return root / "raw" / NAME


def write_archive(root):
    folder = write_folder(root / "scratch")
    (root / "raw").mkdir(exist_ok=True)
    path = root / "raw" / f"{NAME}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, NAME)
    shutil.rmtree(root / "scratch")
    return path


def double(data):
    return Data(x=2 * data.x, run=data.run, first=data.pos[:1])


def count_points(data):
    data.points = data.num_nodes
    return data


def test_folder_placed_by_hand(tmp_path):
    write_folder(tmp_path)
    train = DrivAerML(tmp_path)
    test = DrivAerML(tmp_path, split="test")
    assert [data.run for data in train] == [2, 10, 101]
    assert [data.run for data in test] == [3, 7]
    assert (str(train), len(train), len(test)) == ("DrivAerML(3)", 3, 2)
    assert not list((tmp_path / "processed").rglob("*.pt"))


def test_archive_placed_by_hand(tmp_path):
    archive = write_archive(tmp_path)
    train = DrivAerML(str(tmp_path))
    assert [data.run for data in train] == [2, 10, 101]
    assert (tmp_path / "raw" / f"{NAME}.tar.gz.json").exists()
    archive.unlink()
    assert [data.run for data in DrivAerML(tmp_path, "test")] == [3, 7]


def test_download(tmp_path, monkeypatch):
    calls = []

    def download(repo_id, filename, repo_type, revision, local_dir):
        calls.append((repo_id, filename, repo_type, revision))
        return str(write_archive(tmp_path))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    for split in ("train", "test"):
        DrivAerML(tmp_path, split, revision="v1")
    expected = ("vedantpuri/PDESurrogates", f"{NAME}.tar.gz", "dataset", "v1")
    assert calls == [expected]
    with pytest.raises(ValueError, match="not at revision='v2'"):
        DrivAerML(tmp_path, revision="v2")


def test_revision_of_a_folder_placed_by_hand(tmp_path):
    write_folder(tmp_path)
    with pytest.warns(UserWarning, match="revision 'v1' cannot be checked"):
        DrivAerML(tmp_path, revision="v1")


def test_offline(tmp_path):
    with pytest.raises(ConnectionError) as caught:
        DrivAerML(tmp_path, num_points="1m")
    archive = "drivaerml_surface_presampled_1m.tar.gz"
    assert f"'{archive}' is missing" in str(caught.value)
    assert f"'{tmp_path / 'raw' / archive}' by hand" in str(caught.value)
    assert f"hf download vedantpuri/PDESurrogates {archive}" in str(caught.value)


def test_sample(tmp_path):
    arrays = {
        "surface_mesh_centers": np.array([LOWER, UPPER, [1.595, 0.00015, 0.46345]]),
        "surface_fields": np.arange(12.0).reshape(3, 4) - 5.0,
    }
    write_run(tmp_path / "raw" / NAME / "train", 1, arrays)
    data = DrivAerML(tmp_path)[0]
    assert set(data.keys()) == FIELDS
    expected = torch.tensor([[0.0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5]])
    torch.testing.assert_close(data.x, expected, rtol=0, atol=1e-6)
    assert torch.equal(data.pos[0], torch.tensor([-0.9425, -1.1314, -0.3176]))
    assert torch.equal(data.y, torch.tensor([[-5.0], [-1.0], [3.0]]))
    shear = torch.tensor([[-4.0, -3, -2], [0, 1, 2], [4, 5, 6]])
    assert torch.equal(data.wall_shear_stress, shear)
    assert (data.run, data.num_nodes) == (1, 3)
    for key in ("x", "pos", "y", "wall_shear_stress"):
        assert data[key].dtype == torch.float32 and data[key].is_contiguous()
    assert data.validate()


def test_x_against_float64(tmp_path):
    write_folder(tmp_path)
    dataset = DrivAerML(tmp_path)
    assert dataset.coordinate_bounds == (tuple(LOWER), tuple(UPPER))
    for data in dataset:
        pos = arrays_of(data.run, 3 + data.run % 3)["surface_mesh_centers"]
        x = (pos.astype(np.float64) - LOWER) / (UPPER - LOWER)
        np.testing.assert_allclose(data.x.numpy(), x, rtol=0, atol=2e-7)
        np.testing.assert_array_equal(data.pos.numpy(), pos)


def test_constants():
    assert DrivAerML.pressure_mean == -229.845718
    assert DrivAerML.pressure_std == 269.598572
    assert DrivAerML.speed == 38.889
    assert DrivAerML.density == 1.0
    assert DrivAerML.reference_area == 2.17
    assert DrivAerML.published_sizes == {"train": 387, "test": 97}


@pytest.mark.parametrize("split", ["val", "Train", None, -1])
def test_invalid_split(tmp_path, split):
    with pytest.raises(ValueError, match=r"one of \['train', 'test'\], got"):
        DrivAerML(tmp_path, split=split)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("num_points", [-1, 40000, "40K", "60k"])
def test_invalid_num_points(tmp_path, num_points):
    with pytest.raises(ValueError, match=r"'10k', '40k', '50k', .*'1m'\], got"):
        DrivAerML(tmp_path, num_points=num_points)


def test_subset_is_logged(tmp_path, caplog):
    write_folder(tmp_path)
    with caplog.at_level(logging.WARNING):
        DrivAerML(tmp_path, split="test")
    assert "holds 2 samples; the published test split has 97" in caplog.text
    caplog.clear()
    DrivAerML(tmp_path, split="test")
    assert caplog.text == ""


def test_missing_split_and_empty_split(tmp_path):
    write_folder(tmp_path, test_runs=())
    with pytest.raises(FileNotFoundError, match="has no folder 'test'"):
        DrivAerML(tmp_path, split="test")
    (tmp_path / "raw" / NAME / "test").mkdir()
    (tmp_path / "raw" / NAME / "test" / "._run_1.npz").touch()
    with pytest.raises(FileNotFoundError, match=r"holds no run_\*\.npz"):
        DrivAerML(tmp_path, split="test")


def test_changed_sample(tmp_path):
    folder = write_folder(tmp_path)
    dataset = DrivAerML(tmp_path)
    write_run(folder / "train", 10, arrays_of(11))
    assert dataset[0].run == 2
    for changed in (dataset, DrivAerML(tmp_path)):
        with pytest.raises(ValueError, match=r"run_10\.npz' has changed since"):
            changed[1]
    dataset = DrivAerML(tmp_path, force_reload=True)
    pressure = arrays_of(11)["surface_fields"][:, :1]
    np.testing.assert_array_equal(dataset[1].y.numpy(), pressure)


def test_added_run(tmp_path):
    folder = write_folder(tmp_path)
    DrivAerML(tmp_path)
    write_run(folder / "train", 5)
    with pytest.raises(ValueError, match="from other samples than there are"):
        DrivAerML(tmp_path)
    runs = [data.run for data in DrivAerML(tmp_path, force_reload=True)]
    assert runs == [2, 5, 10, 101]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"surface_fields": np.zeros((5, 3))},
            r"must have shape \(n, 4\), got \(5, 3\)",
        ),
        ({"surface_fields": np.zeros((4, 4))}, "has 5 points, surface_fields 4"),
        ({"surface_mesh_centers": np.zeros((0, 3))}, r"shape \(n, 3\), got \(0, 3\)"),
        ({"surface_mesh_centers": np.float32(1.0)}, r"shape \(n, 3\), got \(\)"),
        ({"surface_fields": np.full((5, 4), np.nan)}, "surface_fields .* not finite"),
        ({"surface_fields": np.full((5, 4), 1e300)}, "surface_fields .* not finite"),
        ({"surface_fields": np.zeros((5, 4), complex)}, "complex128, not real"),
        ({"surface_fields": np.full((5, 4), "a")}, "not real"),
        ({"surface_fields": np.full((5, 4), None)}, "not a .npz file with the arrays"),
        ({"surface_fields": None}, "not a .npz file with the arrays"),
    ],
)
def test_malformed_arrays(tmp_path, change, message):
    arrays = arrays_of(1) | change
    if change.get("surface_fields", 0) is None:
        del arrays["surface_fields"]
    write_run(tmp_path / "raw" / NAME / "train", 1, arrays)
    with pytest.raises(ValueError, match=rf"run_1\.npz'.*{message}"):
        DrivAerML(tmp_path)


def npy():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((5, 3)))
    return buffer.getvalue()


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps({"a": 1}), npy()])
def test_not_an_npz(tmp_path, content):
    path = write_run(tmp_path / "raw" / NAME / "train", 1)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"run_1\.npz' is not a \.npz file"):
        DrivAerML(tmp_path)


def test_truncated_npz(tmp_path):
    path = write_run(tmp_path / "raw" / NAME / "train", 1)
    content = path.read_bytes()
    for size in range(0, len(content), 97):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"run_1\.npz' is not a \.npz file"):
            DrivAerML(tmp_path)


def test_transform_is_applied_at_every_access(tmp_path):
    write_folder(tmp_path)
    dataset = DrivAerML(tmp_path, transform=count_points)
    assert [data.points for data in dataset] == [5, 4, 5]
    assert "points" not in DrivAerML(tmp_path)[0]


def test_pre_transform_is_stored(tmp_path):
    write_folder(tmp_path)
    raw = DrivAerML(tmp_path / "raw" / "..")
    x = raw[1].x
    dataset = DrivAerML(tmp_path, pre_transform=double, force_reload=True)
    assert torch.equal(dataset[1].x, 2 * x)
    assert torch.equal(dataset[1].first, raw[1].pos[:1])
    assert set(dataset[1].keys()) == {"x", "run", "first"}

    folder = tmp_path / "processed" / NAME / "train"
    names = ["manifest.json", "run_10.pt", "run_101.pt", "run_2.pt"]
    assert sorted(path.name for path in folder.iterdir()) == names
    stored = torch.load(folder / "run_10.pt", weights_only=True)
    assert stored["first"].untyped_storage().nbytes() == 12

    shutil.copy(folder / "run_2.pt", folder / "run_10.pt")
    with pytest.raises(ValueError, match=r"run_10\.pt' has changed since"):
        DrivAerML(tmp_path, pre_transform=double)[1]
    DrivAerML(tmp_path, force_reload=True)
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]


def test_other_pre_transform_needs_force_reload(tmp_path):
    write_folder(tmp_path)
    DrivAerML(tmp_path, pre_transform=double)
    for other in (None, count_points):
        with pytest.warns(UserWarning, match="<function double>, not with") as caught:
            dataset = DrivAerML(tmp_path, pre_transform=other)
        assert caught[0].filename == __file__
        assert set(dataset[0].keys()) == {"x", "run", "first"}
    dataset = DrivAerML(tmp_path, pre_transform=count_points, force_reload=True)
    assert dataset[0].points == 5
    assert set(dataset[0].keys()) == FIELDS | {"points"}


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "must return a Data, got NoneType"),
        (Data(x=torch.ones(1, 1), f=np.mean), "tensors and plain Python values"),
        (Data(x=torch.ones(1, 1), f=lambda: 1), "tensors and plain Python values"),
    ],
)
def test_pre_transform_that_cannot_be_stored(tmp_path, result, message):
    write_folder(tmp_path)
    with pytest.raises(ValueError, match=message):
        DrivAerML(tmp_path, pre_transform=lambda data: result)
    assert not (tmp_path / "processed" / NAME / "train" / "manifest.json").exists()


def test_pickled_pre_transform_of_pyg_is_not_read(tmp_path):
    write_folder(tmp_path)
    DrivAerML(tmp_path)
    path = tmp_path / "processed" / NAME / "train" / "pre_transform.pt"
    assert not path.exists()
    path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert len(DrivAerML(tmp_path)) == 3


def test_interrupted_processing_is_begun_anew(tmp_path):
    folder = write_folder(tmp_path)
    original = (folder / "train" / "run_101.npz").read_bytes()
    (folder / "train" / "run_101.npz").write_bytes(b"")
    with pytest.raises(ValueError, match="run_101"):
        DrivAerML(tmp_path, pre_transform=double)
    (folder / "train" / "run_101.npz").write_bytes(original)
    assert len(DrivAerML(tmp_path, pre_transform=double)) == 3


def test_indexing(tmp_path):
    write_folder(tmp_path)
    dataset = DrivAerML(tmp_path)
    assert dataset[-1].run == 101
    assert [data.run for data in dataset[1:]] == [10, 101]
    assert [data.run for data in dataset[torch.tensor([2, 0])]] == [101, 2]
    assert dataset.num_features == 3
    with pytest.raises(IndexError):
        dataset[3]


@pytest.mark.parametrize("pre_transform", [None, count_points])
def test_loader_with_workers(tmp_path, pre_transform):
    write_folder(tmp_path)
    dataset = DrivAerML(tmp_path, pre_transform=pre_transform)
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[0].x, dataset[0].x)
    loader = DataLoader(dataset, batch_size=3, num_workers=2)
    (batch,) = list(loader)
    assert batch.run.tolist() == [2, 10, 101]
    assert batch.ptr.tolist() == [0, 5, 9, 14]
    assert batch.y.shape == (14, 1)


def test_fields_of_drivaerml(tmp_path):
    folder = tmp_path / "raw" / "drivaerml_surface_presampled_40k" / "train"
    folder.mkdir(parents=True)
    values = np.arange(12.0).reshape(3, 4)
    np.savez(
        folder / "run_1.npz",
        surface_mesh_centers=np.ones((3, 3)),
        surface_fields=values,
    )
    pressure, shear = (
        Field("pressure", 1, "m²/s²"),
        Field("wall_shear_stress", 3, "m²/s²"),
    )
    expected = {
        ("pressure",): ((pressure,), values[:, :1]),
        ("wall_shear_stress",): ((shear,), values[:, 1:]),
        ("pressure", "wall_shear_stress"): ((pressure, shear), values),
        ("wall_shear_stress", "pressure"): ((shear, pressure), values[:, [1, 2, 3, 0]]),
    }
    assert DrivAerML(tmp_path).fields == (pressure,)
    assert DrivAerML(tmp_path).features == ()
    for names, (fields, y) in expected.items():
        dataset = DrivAerML(tmp_path, fields=names)
        assert dataset.fields == fields
        np.testing.assert_array_equal(dataset[0].y, y)
        np.testing.assert_array_equal(dataset[0].wall_shear_stress, values[:, 1:])
    for bad in ((), "pressure", ("pressure", "pressure"), ("velocity",)):
        with pytest.raises(ValueError, match=r"fields must be a tuple of names among"):
            DrivAerML(tmp_path, fields=bad)

    stored = {"pre_transform": halve, "force_reload": True}
    DrivAerML(tmp_path, fields=("pressure",), **stored)
    with pytest.raises(ValueError, match=r"made for fields=\['pressure'\], not for"):
        DrivAerML(tmp_path, fields=("wall_shear_stress",), pre_transform=halve)
