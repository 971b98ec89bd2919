import json
import logging
import pickle
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from torch_geometric_flare.datasets import LPBF
from torch_geometric_flare.fields import Field


class Poison:
    """Fails the test when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("unpickled",)


def arrays_of(seed, size=9):
    rng = np.random.default_rng(seed)
    return {
        "pos": rng.uniform(0, (30, 30, 60), (size, 3)),
        "disp": rng.normal(0, 0.1, (size, 3)),
        "vmstr": rng.uniform(0, 900, (size, 1)),
        "temp": rng.uniform(300, 900, (size, 1)),
        "edge_index": rng.integers(0, size, (2, 14)),
        "elems": rng.integers(0, size, (2, 8)),
        "_metadata": np.array([Poison()], dtype=object),
    }


def write_part(root, split, name, arrays):
    folder = root / "raw" / "LPBF_FLARE" / split
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"{name}.npz", **arrays)
    return folder / f"{name}.npz"


def write_all(root):
    for seed, name in enumerate(("b_1", "a_2", "a_10")):
        write_part(root, "train", name, arrays_of(seed, 9 + seed))
    write_part(root, "test", "c", arrays_of(7))
    (root / "raw" / "LPBF_FLARE" / "index.parquet").write_bytes(b"not read")


def test_every_number(tmp_path, caplog):
    write_all(tmp_path)
    with caplog.at_level(logging.WARNING):
        train, test = LPBF(tmp_path), LPBF(tmp_path, "test")
    assert "holds 3 samples; the published train split has 1100" in caplog.text
    assert "holds 1 samples; the published test split has 290" in caplog.text
    assert (str(train), train.sizes, test.sizes) == ("LPBF(3)", [11, 10, 9], [9])
    assert train.fields == (Field("displacement_z", 1, "mm"),)
    for data, seed, size in (
        (train[0], 2, 11),
        (train[1], 1, 10),
        (train[2], 0, 9),
        (test[0], 7, 9),
    ):
        raw = arrays_of(seed, size)
        expected = {
            "x": raw["pos"] / (30, 30, 60),
            "pos": raw["pos"],
            "y": raw["disp"][:, 2:],
            "displacement": raw["disp"],
            "von_mises_stress": raw["vmstr"],
            "temperature": raw["temp"],
            "edge_index": raw["edge_index"],
            "cells": raw["elems"],
        }
        assert set(data.keys()) == set(expected)
        for key, value in expected.items():
            kind = torch.int64 if value.dtype.kind == "i" else torch.float32
            assert data[key].dtype == kind and data[key].is_contiguous()
            np.testing.assert_allclose(data[key].numpy(), value, rtol=1e-6)
        assert data.validate()


def test_fields(tmp_path):
    write_all(tmp_path)
    names = ("temperature", "displacement", "von_mises_stress", "displacement_z")
    dataset = LPBF(tmp_path, fields=names)
    raw = arrays_of(0)
    columns = [raw["temp"], raw["disp"], raw["vmstr"], raw["disp"][:, 2:]]
    np.testing.assert_allclose(dataset[2].y.numpy(), np.hstack(columns), rtol=1e-6)
    assert [field.unit for field in dataset.fields] == ["", "mm", "", "mm"]
    for wrong in ("temperature", (), ("stress",), ("temperature", "temperature")):
        with pytest.raises(ValueError, match="fields must be a tuple of names among"):
            LPBF(tmp_path, fields=wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pos": np.zeros((9, 2))}, r"pos must have shape \(n, 3\), got \(9, 2\)"),
        ({"disp": np.zeros((8, 3))}, "different numbers of points: .*'disp': 8"),
        ({"vmstr": np.full((9, 1), np.nan)}, "vmstr has values that are not finite"),
        ({"temp": np.full((9, 1), np.inf)}, "temp has values that are not finite"),
        ({"temp": np.zeros(9)}, r"temp must have shape \(n, 1\), got \(9,\)"),
        ({"edge_index": np.full((2, 3), 9)}, "edge_index names the points 9 to 9"),
        (
            {"edge_index": np.zeros((3, 2), int)},
            r"edge_index must be integers of the shape \(2, n",
        ),
        ({"elems": np.full((1, 8), -1)}, "elems names the points -1 to -1"),
        ({"elems": np.zeros((1, 8))}, r"elems must be integers .* of float64"),
        ({"elems": np.zeros((1, 4), int)}, r"got the shape \(1, 4\)"),
        ({"pos": None}, "it lacks pos"),
        ({"pos": np.full((9, 3), None)}, "is not a .npz file with the arrays"),
    ],
)
def test_malformed(tmp_path, change, message):
    arrays = {k: v for k, v in (arrays_of(1) | change).items() if v is not None}
    write_part(tmp_path, "train", "part", arrays)
    with pytest.raises(ValueError, match=rf"part\.npz'.*{message}"):
        LPBF(tmp_path)


def test_truncated_and_begun_anew(tmp_path):
    write_all(tmp_path)
    path = tmp_path / "raw" / "LPBF_FLARE" / "train" / "b_1.npz"
    content = path.read_bytes()
    for size in range(0, len(content), 401):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"b_1\.npz' is not a \.npz file"):
            LPBF(tmp_path)
    path.write_bytes(content)
    dataset = LPBF(tmp_path)
    assert len(dataset) == 3
    write_part(tmp_path, "train", "b_1", arrays_of(5))
    with pytest.raises(ValueError, match="has changed since"):
        dataset[2]


def test_missing(tmp_path):
    with pytest.raises(ConnectionError) as caught:
        LPBF(tmp_path)
    folder = tmp_path / "raw" / "LPBF_FLARE"
    assert str(folder / "train") in str(caught.value)
    assert "hf download vedantpuri/LPBF_FLARE" in str(caught.value)
    (folder / "train").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"holds no \*\.npz"):
        LPBF(tmp_path)


def test_revision_of_files_placed_by_hand(tmp_path):
    write_all(tmp_path)
    with pytest.warns(UserWarning, match="cannot be checked") as caught:
        LPBF(tmp_path, revision="v1")
    assert len(caught) == 1


def hub_of(root, monkeypatch, fail_at=None):
    """Serve the files under `root` as the hub would; return what was asked for."""
    source, calls = root / "raw" / "LPBF_FLARE", []

    def list_files(self, repo_id, repo_type, revision):
        calls.append((repo_id, repo_type, revision))
        names = (path.relative_to(source) for path in source.rglob("*"))
        return [str(name) for name in names] + [
            "train/deeper/a_1.npz",
            "old/train/a_1.npz",
        ]

    def download(repo_id, filename, repo_type, revision, local_dir):
        if filename == fail_at:
            raise OSError("the line is cut")
        calls.append(filename)
        target = Path(local_dir, filename)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((source / filename).read_bytes())
        return str(target)

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", list_files)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return calls


def test_download_that_is_interrupted(tmp_path, monkeypatch):
    write_all(tmp_path / "hub")
    root = tmp_path / "root"
    calls = hub_of(tmp_path / "hub", monkeypatch, fail_at="train/a_2.npz")
    with pytest.raises(ConnectionError, match="the line is cut"):
        LPBF(root, revision="v1")
    assert calls == [("vedantpuri/LPBF_FLARE", "dataset", "v1"), "train/a_10.npz"]
    calls = hub_of(tmp_path / "hub", monkeypatch)
    assert LPBF(root, revision="v1").sizes == [11, 10, 9]
    assert calls == ["train/a_2.npz", "train/b_1.npz"]
    assert LPBF(root, "test").sizes == [9]
    record = root / "raw" / "LPBF_FLARE" / "train" / "b_1.npz.json"
    assert json.loads(record.read_text())["repo_id"] == "vedantpuri/LPBF_FLARE"
    with pytest.raises(ValueError, match="not at revision='v2'"):
        LPBF(root, revision="v2")


def test_damaged_listing(tmp_path, monkeypatch):
    folder = tmp_path / "raw" / "LPBF_FLARE"
    folder.mkdir(parents=True)
    for names in (["../x.npz"], ["test/a.npz"], "train/a.npz", [1]):
        (folder / "train_files.json").write_text(json.dumps({"files": names}))
        with pytest.raises(ValueError, match="lists no files of the split"):
            LPBF(tmp_path)


def test_empty_repository(tmp_path, monkeypatch):
    (tmp_path / "hub" / "raw" / "LPBF_FLARE").mkdir(parents=True)
    hub_of(tmp_path / "hub", monkeypatch)
    with pytest.raises(FileNotFoundError, match="has no files 'test/"):
        LPBF(tmp_path / "root", "test")


def test_pickled(tmp_path):
    write_all(tmp_path)
    dataset = pickle.loads(pickle.dumps(LPBF(tmp_path)))
    assert dataset[0].num_nodes == 11


def test_cells_of_a_batch(tmp_path):
    write_all(tmp_path)
    train = LPBF(tmp_path)
    batch = Batch.from_data_list(list(train))
    starts = {0: 0, 1: 11, 2: 21}
    expected = [train[index].cells + start for index, start in starts.items()]
    assert torch.equal(batch.cells, torch.cat(expected))
    assert torch.equal(batch[2].cells, train[2].cells)


def test_edges_in_rows_are_refused_by_their_shape(tmp_path):
    arrays = arrays_of(0)
    arrays["edge_index"] = arrays["edge_index"].T
    write_part(tmp_path, "train", "a", arrays)
    with pytest.raises(ValueError, match=r"shape \(2, n\), got the shape \(14, 2\)"):
        LPBF(tmp_path)


def test_a_file_that_is_gone(tmp_path):
    write_all(tmp_path)
    train = LPBF(tmp_path)
    train.source("a_2").unlink()
    with pytest.raises(FileNotFoundError, match=r"a_2\.npz' is gone.*Restore"):
        train[1]
