"""The base of verified data sets, on two toy formats as different as can be."""

import csv
import json
import logging
import pickle
import shutil
import tarfile
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import constants
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from torch_geometric_flare.datasets import DrivAerML, FilePerSample, StackedArrays
from torch_geometric_flare.datasets.arrays import open_npy, to_tensor
from torch_geometric_flare.datasets.sources import StackedArrays as Base
from torch_geometric_flare.fields import Field
from torch_geometric_flare.transforms import make_input


class Stress(StackedArrays):
    """Point sets in the plane: two arrays hold all samples, along their last axis."""

    repo_id = "owner/problems"
    published_sizes = {"train": 3, "test": 2}
    fields = (Field("stress"),)
    sample_axis = -1
    index_ranges = {"train": range(3), "test": range(4, 6)}

    @property
    def name(self):
        return "stress"

    @property
    def raw_file_names(self):
        return ["Problems/stress/XY.npy", "Problems/stress/sigma.npy"]

    def hub_files(self):
        return ["Problems.tar.gz"]

    def open_arrays(self):
        xy, sigma = (open_npy(Path(path)) for path in self.raw_paths)
        return {"XY": xy, "sigma": sigma}

    def make_sample(self, arrays, name):
        where = f"sample {name} of '{self.source(name)}'"
        data = Data(
            pos=to_tensor(arrays["XY"], 2, f"{where}: XY"),
            y=to_tensor(arrays["sigma"][:, None], 1, f"{where}: sigma"),
        )
        data.x = make_input(data)
        return data


class Flow(StackedArrays):
    """A coefficient on a grid, in an archive that cannot be mapped: converted once."""

    repo_id = "owner/problems"
    published_sizes = {"train": 4}
    fields = (Field("pressure"),)
    features = (Field("permeability", unit="m²"),)
    index_ranges = {"train": range(4)}
    converted = 0

    @property
    def name(self):
        return "flow"

    @property
    def raw_file_names(self):
        return ["flow.npz"]

    def hub_files(self):
        return ["flow.npz"]

    def convert(self):
        Flow.converted += 1
        with np.load(self.raw_paths[0]) as arrays:
            for key in ("coeff", "sol"):
                np.save(Path(self.processed_dir, f"{key}.npy"), arrays[key][:, ::2])

    def open_arrays(self):
        folder = Path(self.processed_dir)
        return {key: open_npy(folder / f"{key}.npy") for key in ("coeff", "sol")}

    def make_sample(self, arrays, name):
        height, width = arrays["coeff"].shape
        axes = torch.linspace(0, 1, height), torch.linspace(0, 1, width)
        data = Data(
            pos=torch.cartesian_prod(*axes),
            permeability=to_tensor(arrays["coeff"].reshape(-1, 1), 1, "coeff"),
            y=to_tensor(arrays["sol"].reshape(-1, 1), 1, "sol"),
            grid=(height, width),
        )
        data.x = make_input(data, self.features)
        return data


class Parts(FilePerSample):
    """Printed parts: a file for each, fetched one by one as an index lists them."""

    repo_id = "owner/parts"
    published_sizes = {"train": 2, "test": 1}
    fields = (Field("displacement", 3, "mm"),)
    array_names = ("pos", "disp", "edge_index", "elems")

    @property
    def name(self):
        return "parts"

    @property
    def raw_file_names(self):
        if not Path(self.raw_dir, "index.csv").exists():
            return ["index.csv"]
        return ["index.csv", *self.listed()]

    def listed(self):
        with open(Path(self.raw_dir, "index.csv"), newline="") as file:
            rows = list(csv.DictReader(file))
        return [row["file"] for row in rows if row["file"].startswith(self.split)]

    def hub_files(self):
        yield "index.csv"
        yield from self.listed()

    def sample_paths(self):
        return [Path(self.raw_dir, name) for name in self.listed()]

    def make_sample(self, arrays, name):
        source = self.source(name)
        data = Data(
            pos=to_tensor(arrays["pos"], 3, f"'{source}': pos"),
            y=to_tensor(arrays["disp"], 3, f"'{source}': disp"),
            edge_index=torch.from_numpy(arrays["edge_index"].astype(np.int64)),
            cells=torch.from_numpy(arrays["elems"].astype(np.int64)),
        )
        data.x = make_input(data)
        return data


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def stress_arrays(count=6):
    rng = np.random.default_rng(0)
    return rng.random((7, 2, count)), rng.random((7, count))


def write_stress(root, count=6):
    folder = root / "raw" / "Problems" / "stress"
    folder.mkdir(parents=True, exist_ok=True)
    xy, sigma = stress_arrays(count)
    np.save(folder / "XY.npy", xy)
    np.save(folder / "sigma.npy", sigma)
    return folder


def part_arrays(number):
    rng = np.random.default_rng(number)
    size = 8 + number
    return {
        "pos": rng.random((size, 3)),
        "disp": rng.random((size, 3)),
        "edge_index": rng.integers(0, size, (2, 20)),
        "elems": np.arange(8)[None],
        "_metadata": np.array([print], dtype=object),
    }


def write_parts(folder):
    names = ["train/b_7.npz", "train/a_1.npz", "test/c_2.npz"]
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **part_arrays(number))
    (folder / "index.csv").write_text("\n".join(["file", *names]) + "\n")
    return names


def halve(data):
    half = data.num_nodes // 2
    return Data(x=data.x[:half], pos=data.pos[:half], y=data.y[:half])


def test_slices_of_stacked_arrays(tmp_path):
    write_stress(tmp_path)
    xy, sigma = stress_arrays()
    train, test = (Stress(tmp_path, split) for split in ("train", "test"))
    for dataset, indices in ((train, [0, 1, 2]), (test, [4, 5])):
        assert len(dataset) == len(indices)
        for data, index in zip(dataset, indices, strict=True):
            np.testing.assert_array_equal(data.pos, xy[..., index].astype(np.float32))
            np.testing.assert_array_equal(data.x, data.pos)
            np.testing.assert_array_equal(data.y, sigma[:, [index]].astype(np.float32))
    assert train.sizes == [7, 7, 7]
    assert test[[1]].sizes == [7]
    assert str(test) == "Stress(2)"
    names = [path.name for path in (tmp_path / "processed").rglob("*.*")]
    assert names == ["manifest.json"] * 2


def test_processing_is_logged(tmp_path, caplog, capsys):
    write_stress(tmp_path)
    with caplog.at_level(logging.INFO, "torch_geometric_flare"):
        Stress(tmp_path, "train")
    assert "stress/train" in caplog.text
    assert "stress/train" not in "".join(capsys.readouterr())


def test_an_archive_of_several_problems_is_unpacked_once(tmp_path):
    write_stress(tmp_path / "scratch")
    (tmp_path / "raw").mkdir()
    path = tmp_path / "raw" / "Problems.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tmp_path / "scratch" / "raw" / "Problems", "Problems")
    assert len(Stress(tmp_path)) == 3
    path.unlink()
    assert len(Stress(tmp_path, "test")) == 2
    (tmp_path / "raw" / "Problems" / "stress" / "sigma.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no file 'sigma\.npy'.*Problems"):
        Stress(tmp_path)


def test_what_is_missing_says_how_to_fetch_it(tmp_path):
    with pytest.raises(ConnectionError, match=r"hf download owner/problems Problems\."):
        Stress(tmp_path)
    with pytest.raises(ValueError, match=r"split must be one of \['train', 'test'\]"):
        Stress(tmp_path, "val")


def test_a_sample_is_verified_by_its_own_bytes(tmp_path, monkeypatch):
    folder = write_stress(tmp_path)
    dataset = Stress(tmp_path)
    sigma = stress_arrays()[1]
    sigma[3, 1] += 1e-9
    np.save(folder / "sigma.npy", sigma)
    changed = Stress(tmp_path)

    # Nothing is read whole.
    def refuse(*_, **__):
        raise AssertionError("a whole file was read")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    for good in (0, 2):
        assert torch.equal(changed[good].y, dataset[good].y)
    with pytest.raises(ValueError, match=r"sample 1 of '.*XY\.npy'.*has changed since"):
        changed[1]
    monkeypatch.undo()
    assert len(list(Stress(tmp_path, force_reload=True))) == 3


def test_memory_maps_are_not_pickled(tmp_path):
    write_stress(tmp_path)
    dataset = Stress(tmp_path)
    dataset[0]
    content = pickle.dumps(dataset)
    assert len(content) < 4000
    assert torch.equal(pickle.loads(content)[2].y, dataset[2].y)
    (batch,) = DataLoader(dataset[1:], batch_size=2, num_workers=1)
    assert torch.equal(batch.y, torch.cat([dataset[1].y, dataset[2].y]))


def test_arrays_that_do_not_fit(tmp_path, caplog):
    folder = write_stress(tmp_path, count=5)
    assert len(Stress(tmp_path, "test")) == 1
    assert "holds 1 samples; the published test split has 2" in caplog.text
    np.save(folder / "sigma.npy", np.ones((7, 4)))
    with pytest.raises(ValueError, match=r"along axis -1: \{'XY': 5, 'sigma': 4\}"):
        Stress(tmp_path)
    np.save(folder / "XY.npy", np.ones((7, 2, 4)))
    with pytest.raises(FileNotFoundError, match="4 samples; the test split begins at"):
        Stress(tmp_path, "test")
    np.save(folder / "sigma.npy", np.full((7, 4), np.nan))
    with pytest.raises(ValueError, match=r"000000 of '.*XY\.npy': sigma .* not finite"):
        Stress(tmp_path)
    (folder / "sigma.npy").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"sigma\.npy' is not a \.npy file"):
        Stress(tmp_path)


def test_arrays_that_are_converted_once(tmp_path, monkeypatch):
    monkeypatch.setattr(Flow, "converted", 0)
    rng = np.random.default_rng(0)
    arrays = {key: rng.random((4, 6, 5)) for key in ("coeff", "sol")}
    (tmp_path / "raw").mkdir()
    np.savez(tmp_path / "raw" / "flow.npz", **arrays)
    dataset = Flow(tmp_path)
    data = Flow(tmp_path)[2]
    assert Flow.converted == 1
    assert data.grid == (3, 5)
    coefficient = arrays["coeff"][2, ::2].astype(np.float32).reshape(-1, 1)
    np.testing.assert_array_equal(data.x[:, 2:], coefficient)
    np.testing.assert_array_equal(data.permeability, coefficient)
    assert data.x[:, :2].equal(data.pos)
    assert (dataset.features[0].unit, dataset.sizes) == ("m²", [15] * 4)

    arrays["sol"] += 1
    np.savez(tmp_path / "raw" / "flow.npz", **arrays)
    again = Flow(tmp_path, force_reload=True)
    assert Flow.converted == 2
    assert torch.allclose(again[2].y, data.y + 1)


def test_files_fetched_as_an_index_lists_them(tmp_path, monkeypatch):
    names = write_parts(tmp_path / "hub")
    calls = []

    def download(repo_id, filename, repo_type, revision, local_dir):
        calls.append(filename)
        path = Path(local_dir) / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "hub" / filename, path)
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    train = Parts(tmp_path)
    assert calls == ["index.csv", *names[:2]]
    assert train.sizes == [8, 9]
    for number, data in enumerate(train):
        arrays = part_arrays(number)
        np.testing.assert_array_equal(data.y, arrays["disp"].astype(np.float32))
        np.testing.assert_array_equal(data.edge_index, arrays["edge_index"])
        assert data.cells.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]
    assert len(Parts(tmp_path, "test")) == 1
    assert calls == ["index.csv", *names]


def test_files_placed_by_hand_are_verified_one_by_one(tmp_path):
    names = write_parts(tmp_path / "raw")
    dataset = Parts(tmp_path)
    np.savez(tmp_path / "raw" / names[1], **part_arrays(5))
    assert dataset[0].num_nodes == 8
    with pytest.raises(ValueError, match=r"a_1\.npz' has changed since"):
        dataset[1]


def test_two_files_of_one_name(tmp_path):
    names = write_parts(tmp_path / "raw")
    (tmp_path / "raw" / "train" / "more").mkdir()
    shutil.copy(tmp_path / "raw" / names[0], tmp_path / "raw" / "train" / "more")
    with (tmp_path / "raw" / "index.csv").open("a") as file:
        file.write("train/more/b_7.npz\n")
    with pytest.raises(ValueError, match="two samples of one name in the train split"):
        Parts(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"disp": None}, "lacks disp"),
        ({"disp": np.full((8, 3), np.nan)}, "disp has values that are not finite"),
        ({"disp": np.full((8, 3), "a")}, "not real numbers"),
        ({"disp": np.full((8, 3), None)}, "not real numbers"),
    ],
)
def test_malformed_files(tmp_path, change, message):
    names = write_parts(tmp_path / "raw")
    arrays = part_arrays(0) | change
    arrays = {name: array for name, array in arrays.items() if array is not None}
    np.savez(tmp_path / "raw" / names[0], **arrays)
    with pytest.raises(ValueError, match=rf"b_7\.npz'.*{message}"):
        Parts(tmp_path)


@pytest.mark.parametrize("make", [write_stress, lambda root: write_parts(root / "raw")])
def test_pre_transform_is_stored(tmp_path, make):
    make(tmp_path)
    kind = Stress if make is write_stress else Parts
    whole = kind(tmp_path / "raw" / "..")
    expected = [halve(data) for data in whole]
    dataset = kind(tmp_path, pre_transform=halve, force_reload=True)
    assert dataset.sizes == [data.num_nodes for data in expected]
    for data, other in zip(dataset, expected, strict=True):
        assert torch.equal(data.y, other.y)
    path = next(Path(dataset.processed_dir).glob("*.pt"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"\.pt' has changed since"):
        list(dataset)


def test_pre_transform_that_leaves_no_points(tmp_path):
    write_stress(tmp_path)
    with pytest.raises(ValueError, match="pre_transform left no points"):
        Stress(tmp_path, pre_transform=lambda data: Data(note="empty"))


def test_a_manifest_of_another_version(tmp_path):
    write_stress(tmp_path)
    path = Path(Stress(tmp_path).processed_paths[0])
    manifest = json.loads(path.read_text())
    for entry in ([], {}, {"num_points": "7"}):
        path.write_text(
            json.dumps(
                manifest | {"samples": dict.fromkeys(manifest["samples"], entry)}
            )
        )
        with pytest.raises(ValueError, match=r"manifest\.json' has a damaged entry"):
            Stress(tmp_path)
    path.write_text("[" * 10**5)
    with pytest.raises(ValueError, match=r"manifest\.json' is not valid JSON"):
        Stress(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=r"manifest\.json' is a folder"):
        Stress(tmp_path)


def test_names_that_leave_the_folder(tmp_path, monkeypatch):
    write_stress(tmp_path)
    monkeypatch.setattr(Base, "sample_names", lambda self: ["../000000"])
    with pytest.raises(ValueError, match=r"'\.\./000000' is not that of a file"):
        Stress(tmp_path)


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
