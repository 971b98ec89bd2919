import copy
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.datasets.simulators import contents, double, make
from torch_geometric_flare.datasets import SimulatedDataset


class Count:
    def __init__(self, factor):
        self.factor = factor
        self.calls = 0

    def __repr__(self):
        return f"Count({self.factor})"

    def __call__(self, data):
        self.calls += 1
        data.y = self.factor * data.y
        data.edge_index = torch.tensor([[0, 1], [1, 0]])
        data.note = "scaled"
        return data


def test_transform_on_every_access(tmp_path, noise):
    plain = make(tmp_path, noise)
    calls = []

    def transform(data):
        calls.append(data)
        return double(data)

    dataset = make(tmp_path, noise, transform=transform)
    assert not calls
    assert dataset[1].y.equal(2 * plain[1].y)
    assert dataset[1].y.equal(2 * plain[1].y)
    assert len(calls) == 2


def test_pre_transform_once(tmp_path, noise):
    plain = make(tmp_path, noise)
    first = Count(3.0)
    dataset = make(tmp_path, noise, pre_transform=first)
    assert first.calls == 4
    for data, raw in zip(dataset, plain, strict=True):
        assert data.y.equal(3 * raw.y)
        assert data.edge_index.tolist() == [[0, 1], [1, 0]]
        assert data.note == "scaled"
    assert first.calls == 4

    again = Count(3.0)
    grown = make(tmp_path, noise, 5, pre_transform=again)
    assert again.calls == 1
    assert len(grown) == 5

    other = make(tmp_path, noise, pre_transform=Count(5.0))
    assert other[2].y.equal(5 * plain[2].y)
    # Neither disturbed the others.
    assert make(tmp_path, noise, pre_transform=Count(3.0))[2].y.equal(3 * plain[2].y)
    assert make(tmp_path, noise)[2].y.equal(plain[2].y)
    assert noise.samples() == 5


def test_pre_transform_by_a_function(tmp_path, noise):
    plain = make(tmp_path, noise)
    dataset = make(tmp_path, noise, pre_transform=double)
    same = make(tmp_path, noise, pre_transform=copy.copy(double))
    assert dataset.processed_dir == same.processed_dir
    assert dataset[0].y.equal(2 * plain[0].y)


def test_pre_transform_that_cannot_be_stored(tmp_path, noise):
    def anything(data):
        data.path = Path("somewhere")
        return data

    with pytest.raises(ValueError, match="pre_transform"):
        make(tmp_path, noise, pre_transform=anything)
    with pytest.raises(ValueError, match="pre_transform must return a Data"):
        make(tmp_path, noise, pre_transform=lambda data: data.y)


def test_force_reload_simulates_and_transforms_anew(tmp_path, noise):
    dataset = make(tmp_path, noise, pre_transform=Count(3.0))
    before = dataset[1].y
    test = make(tmp_path, noise, 2, split="test")
    for path in [*Path(dataset.raw_dir).rglob("*1*.npz*")]:
        path.write_bytes(b"stale")
    count = Count(3.0)
    again = make(tmp_path, noise, pre_transform=count, force_reload=True)
    assert noise.samples() == 10
    assert count.calls == 4
    assert again[1].y.equal(before)
    assert len(contents(test)) == 2


def test_force_reload_keeps_samples_that_were_not_asked_for(tmp_path, noise):
    make(tmp_path, noise, 4, pre_transform=Count(3.0))
    kept = [*(tmp_path / "data").rglob("00000[23].npz*")]
    assert len(kept) == 4
    for path in kept:
        path.write_bytes(b"kept")
    make(tmp_path, noise, 2, pre_transform=Count(3.0), force_reload=True)
    assert noise.samples() == 4 + 2
    assert [path.read_bytes() for path in kept] == [b"kept"] * 4


@pytest.mark.parametrize(
    "damage",
    [
        *(
            lambda _: b"",
            lambda _: b"no archive",
            lambda _: b"PK\x03\x04 but not really",
        ),
        lambda content: content[:-40],
    ],
)
@pytest.mark.parametrize("pre_transform", [None, double])
def test_damaged_file(tmp_path, noise, damage, pre_transform):
    dataset = make(tmp_path, noise, pre_transform=pre_transform)
    before = dataset[1].y
    path = Path(dataset.processed_dir) / dataset.processed_file_names[1]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="000001.npz.*is damaged: delete it"):
        dataset[1]
    path.unlink()
    with pytest.raises(FileNotFoundError, match="000001.npz.*is gone: make the data"):
        dataset[1]
    with pytest.raises(FileNotFoundError, match="000001.npz.*is gone: make the data"):
        _ = dataset.sizes
    again = make(tmp_path, noise, pre_transform=pre_transform)
    assert again[1].y.equal(before)
    assert noise.samples() == (5 if pre_transform is None else 4)


def test_pickles_are_refused(tmp_path, noise):
    dataset = make(tmp_path, noise)
    np.savez(Path(dataset.raw_dir) / "000001.npz", y=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="is damaged"):
        dataset[1]
    dataset = make(tmp_path, noise, 1, pre_transform=double)
    torch.save({"y": print}, Path(dataset.processed_dir) / "000000.npz.pt")
    with pytest.raises(ValueError, match="is damaged"):
        dataset[0]


def test_manifest_of_other_data(tmp_path, noise):
    path = make(tmp_path, noise, 1).folder / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "seed": 9}))
    with pytest.raises(ValueError, match="describes other data.*delete the folder"):
        make(tmp_path, noise, 1)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"manifest.json.*delete"):
        make(tmp_path, noise, 1)


def test_nothing_but_plain_files(tmp_path, noise):
    dataset = make(tmp_path, noise, 1, pre_transform=double)
    names = {
        str(path.relative_to(dataset.folder))
        for path in dataset.folder.rglob("*")
        if path.is_file()
    }
    label = hashlib.sha256(b"<function double>").hexdigest()[:12]
    assert names == {
        "manifest.json",
        "train/000000.npz",
        f"train/pre_transform-{label}/000000.npz.pt",
        f"train/pre_transform-{label}/pre_transform.txt",
    }


def test_resumes_after_a_failure(tmp_path, noise):
    Path(f"{noise.log}.trap").touch()
    with pytest.raises(RuntimeError, match="failed on sample 2 of split 'train'"):
        make(tmp_path, noise)
    assert noise.samples() == 3
    dataset = make(tmp_path, noise)
    assert noise.samples() == 5  # the failed one and the last one
    fresh = SimulatedDataset(tmp_path / "fresh", noise, 4, num_workers=0)
    assert contents(dataset) == contents(fresh)


def test_a_kill_in_the_middle_of_a_write(tmp_path, noise, monkeypatch):
    def killed(source, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        # As under SIGKILL, nobody cleans up.
        patch.setattr(Path, "unlink", lambda *args, **kwargs: None)
        with pytest.raises(KeyboardInterrupt):
            dataset = make(tmp_path, noise, 1)
    (folder,) = (tmp_path / "data").iterdir()
    assert [path.suffix for path in folder.iterdir()] == [".tmp"]

    dataset = make(tmp_path, noise, 2)
    raw = Path(dataset.raw_dir)
    (raw / ".000001.npz.123.tmp").write_bytes(b"half")
    (raw / ".000002.npz.123.tmp").write_bytes(b"another process may be writing this")
    dataset = make(tmp_path, noise, 2)
    assert sorted(path.name for path in raw.iterdir()) == [
        ".000002.npz.123.tmp",
        "000000.npz",
        "000001.npz",
    ]
    assert len(make(tmp_path, noise, 3)) == 3
    assert sorted(path.suffix for path in raw.iterdir()) == [".npz"] * 3


def test_another_run_that_is_faster(tmp_path, noise, monkeypatch):
    other = make(tmp_path, noise, 1)
    file = Path(other.raw_dir) / "000000.npz"
    content = file.read_bytes()
    file.unlink()

    def too_late(source, target):
        file.write_bytes(content)
        raise FileNotFoundError(source)

    monkeypatch.setattr(os, "replace", too_late)
    assert make(tmp_path, noise, 1)[0].y.equal(other[0].y)


def test_growth_adds_the_new_samples_only(tmp_path, noise):
    small = make(tmp_path, noise, 2)
    before = contents(small)
    large = make(tmp_path, noise, 5)
    assert noise.samples() == 5
    assert {name: contents(large)[name] for name in before} == before
    again = make(tmp_path, noise, 3)
    assert noise.samples() == 5
    assert len(again) == 3
    assert len(list(again)) == 3
