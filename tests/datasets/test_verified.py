"""The base of verified data sets, on toy formats."""

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
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from tests.datasets.formats import (
    Flow,
    Parts,
    Stress,
    halve,
    part_arrays,
    stress_arrays,
    write_parts,
    write_stress,
)
from torch_geometric_flare.datasets import StackedArrays


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
    monkeypatch.setattr(StackedArrays, "sample_names", lambda self: ["../000000"])
    with pytest.raises(ValueError, match=r"'\.\./000000' is not that of a file"):
        Stress(tmp_path)
