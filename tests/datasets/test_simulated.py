import copy
import hashlib
import json
import os
import pickle
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch_geometric.loader import DataLoader

from torch_geometric_flare.datasets import SimulatedDataset, simulated
from torch_geometric_flare.datasets.simulator import sample_rng
from torch_geometric_flare.fields import Field
from torch_geometric_flare.simulation import (
    DarcyFlow,
    Notchback,
    NotchbackVolume,
    NotConverged,
)


@dataclass(frozen=True)
class Noise:
    """Draws; notes each sample in a log; fails once where a trap is set."""

    log: str
    num_points: int = 5
    sizes: tuple[int, ...] = (1, 2)

    name: ClassVar[str] = "simulated_noise"
    fields: ClassVar = (Field("total", 1, "m"),)
    features: ClassVar = ()
    coordinate_bounds: ClassVar = ((0.0, 0.0, 0.0), (2.0, 2.0, 2.0))

    def sample(self, rng):
        pos = rng.random((self.num_points, 3)).astype(np.float32)
        with open(self.log, "a") as file:
            file.write("sample\n")
        if os.path.exists(f"{self.log}.trap") and self.samples() == 3:
            os.remove(f"{self.log}.trap")
            raise FloatingPointError("the solver diverged")
        return {"pos": pos, "total": pos.sum(axis=1, keepdims=True)}

    def samples(self):
        return len(Path(self.log).read_text().splitlines())


@dataclass(frozen=True)
class Threads:
    """Names its process, which must have been told to use one thread."""

    name: ClassVar[str] = "threads"
    fields: ClassVar = (Field("total"),)
    features: ClassVar = ()
    coordinate_bounds: ClassVar = None

    def sample(self, rng):
        if os.environ.get("OMP_NUM_THREADS") != "1":
            raise ValueError("not a single thread")
        return {"pos": np.zeros((1, 2)), "total": np.array([os.getpid()])}


@dataclass(frozen=True)
class Fails:
    name: ClassVar[str] = "fails"
    fields: ClassVar = (Field("total"),)
    features: ClassVar = ()
    coordinate_bounds: ClassVar = None

    def sample(self, rng):
        raise FloatingPointError("the solver diverged")


@dataclass(frozen=True)
class Dies:
    name: ClassVar[str] = "dies"
    fields: ClassVar = (Field("total"),)
    features: ClassVar = ()
    coordinate_bounds: ClassVar = None

    def sample(self, rng):
        os._exit(1)


@dataclass(frozen=True)
class Returns:
    kind: str

    name: ClassVar[str] = "returns"
    fields: ClassVar = (Field("total"),)
    features: ClassVar = ()
    coordinate_bounds: ClassVar = None

    def sample(self, rng):
        total = {"list": [1.0], "objects": np.array([None])}[self.kind]
        return {"pos": np.zeros((1, 2)), "total": total}


@dataclass(frozen=True)
class Holds:
    value: object = field(default_factory=object)

    name: ClassVar[str] = "holds"
    fields: ClassVar = (Field("total"),)
    features: ClassVar = ()
    coordinate_bounds: ClassVar = None

    def sample(self, rng):
        return {"pos": rng.random((3, 2)), "total": rng.random(3)}


@dataclass(frozen=True)
class Named:
    """Has no parameters, and fields of these names."""

    fields: tuple = ()

    name: ClassVar[str] = "named"
    features: ClassVar = ()
    coordinate_bounds: ClassVar = None

    def sample(self, rng):
        raise AssertionError("its fields are wrong")


@dataclass(frozen=True)
class Plate:
    """A coefficient on a fixed 2-D grid, with two targets."""

    name: ClassVar[str] = "simulated_plate"
    fields: ClassVar = (Field("temperature", 1, "K"), Field("flux", 2, "W/m²"))
    features: ClassVar = (Field("conductivity", 1, "W/(m K)"),)
    coordinate_bounds: ClassVar = ((0.0, 0.0), (4.0, 2.0))

    def sample(self, rng):
        rows, columns = np.meshgrid(np.arange(3.0), np.arange(5.0), indexing="ij")
        return {
            "pos": np.stack([columns.ravel(), rows.ravel()], axis=1),
            "temperature": 300.0 + rng.random(15),
            "flux": rng.random((15, 2)),
            "conductivity": rng.random(15),
            "grid": np.array([3, 5]),
            "cells": np.array([[0, 1, 6, 5]]),
            "edge_index": np.array([[0, 1], [1, 0]]),
        }


def test_two_dimensions_features_and_several_targets(tmp_path):
    dataset = make(tmp_path, Plate(), 2)
    raw = Plate().sample(sample_rng(0, "train", 1))
    data = dataset[1]
    assert set(data.keys()) == {
        *("x", "pos", "y", "conductivity", "grid", "cells", "edge_index")
    }
    assert data.pos.shape == (15, 2)
    scaled = raw["pos"] / [4.0, 2.0]
    x = np.column_stack([scaled, raw["conductivity"]])
    np.testing.assert_allclose(data.x.numpy(), x, rtol=1e-7)
    y = np.column_stack([raw["temperature"], raw["flux"]])
    np.testing.assert_allclose(data.y.numpy(), y, rtol=1e-7)
    assert torch.equal(data.conductivity, data.x[:, 2:])
    assert data.grid == (3, 5)
    assert data.cells.tolist() == [[0, 1, 6, 5]]
    assert data.edge_index.tolist() == [[0, 1], [1, 0]]
    assert dataset.sizes == [15, 15]
    assert dataset.fields == Plate.fields
    assert dataset.features == Plate.features
    (batch,) = DataLoader(dataset, batch_size=2)
    assert batch.edge_index.tolist() == [[0, 1, 15, 16], [1, 0, 16, 15]]
    assert batch.cells.tolist() == [[0, 1, 6, 5], [15, 16, 21, 20]]
    assert batch.grid == [(3, 5), (3, 5)]


@pytest.fixture
def noise(tmp_path):
    return Noise(str(tmp_path / "log"))


def make(tmp_path, simulator, num_samples=4, **options):
    options.setdefault("num_workers", 0)
    return SimulatedDataset(tmp_path / "data", simulator, num_samples, **options)


def contents(dataset):
    return {path.name: path.read_bytes() for path in Path(dataset.raw_dir).glob("*.*")}


def double(data):
    data.y = 2 * data.y
    return data


def test_samples_are_the_simulator_s(tmp_path, noise):
    dataset = make(tmp_path, noise, seed=7)
    assert len(dataset) == 4
    assert noise.samples() == 4
    for index, data in enumerate(dataset):
        expected = noise.sample(sample_rng(7, "train", index))
        assert set(data.keys()) == {"x", "pos", "y"}
        assert {value.dtype for _, value in data} == {torch.float32}
        np.testing.assert_array_equal(data.pos.numpy(), expected["pos"])
        np.testing.assert_array_equal(data.y.numpy(), expected["total"])
        np.testing.assert_array_equal(data.x.numpy(), expected["pos"] / 2)
    assert dataset[-1].y.equal(dataset[3].y)
    assert dataset.coordinate_bounds == ((0.0, 0.0, 0.0), (2.0, 2.0, 2.0))
    assert dataset.fields == (Field("total", 1, "m"),)
    assert dataset.features == ()
    with pytest.raises(IndexError):
        dataset[4]


def test_random_states():
    states = [
        sample_rng(seed, split, index).random()
        for seed in (0, 1)
        for split in ("train", "test")
        for index in (0, 1)
    ]
    assert len(set(states)) == 8
    # Any change would silently alter everybody's data.
    assert sample_rng(0, "train", 0).random() == pytest.approx(
        0.8954956745479513, abs=1e-15
    )


@pytest.mark.slow
def test_workers_do_not_matter(tmp_path):
    simulator = Notchback(num_points=50, panels_along=8, panels_around=4)
    here = SimulatedDataset(tmp_path / "a", simulator, 3, num_workers=0)
    there = SimulatedDataset(tmp_path / "b", simulator, 3, num_workers=2)
    assert contents(here) == contents(there)
    assert sorted(contents(here)) == ["000000.npz", "000001.npz", "000002.npz"]
    assert here.folder.name == there.folder.name


@pytest.mark.slow
def test_workers_use_one_thread_each(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    dataset = make(tmp_path, Threads(), num_workers=1)
    assert os.getpid() not in {int(data.y) for data in dataset}
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in os.environ


@pytest.mark.slow
def test_a_failure_in_a_worker_names_the_sample(tmp_path):
    message = "fails failed on sample 0 of split 'test' with seed 5.*solver diverged"
    with pytest.raises(RuntimeError, match=message):
        make(tmp_path, Fails(), 1, split="test", seed=5, num_workers=1)


@pytest.mark.slow
def test_a_dying_worker(tmp_path):
    with pytest.raises(RuntimeError, match="a process that ran dies died.*__main__"):
        make(tmp_path, Dies(), 1, num_workers=1)


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


def test_folder_and_manifest(tmp_path, noise):
    dataset = make(tmp_path, noise, 1, seed=3)
    assert dataset.folder.parent == tmp_path / "data"
    assert dataset.folder.name.startswith("simulated_noise-")
    assert json.loads((dataset.folder / "manifest.json").read_text()) == {
        "data": "simulated",
        "format": 2,
        "simulator": "simulated_noise",
        "parameters": {"log": noise.log, "num_points": 5, "sizes": [1, 2]},
        "fields": [{"name": "total", "channels": 1, "unit": "m"}],
        "features": [],
        "seed": 3,
    }
    others = [
        make(tmp_path, noise, 1, seed=4),
        make(tmp_path, Noise(noise.log, num_points=6), 1, seed=3),
    ]
    assert len({dataset.folder, *(other.folder for other in others)}) == 3
    test = make(tmp_path, noise, 1, seed=3, split="test")
    assert test.folder == dataset.folder
    assert not test[0].y.equal(dataset[0].y)
    # A name that does not say so itself.
    other = make(tmp_path, Holds("a value"), 1)
    assert other.folder.name.startswith("simulated_holds-")


@pytest.mark.parametrize(
    ("simulator", "digest"),
    [(Notchback(), "93910b8b38b0"), (DarcyFlow(), "575f4dcbe49b")],
    ids=["notchback", "darcy"],
)
def test_folders_of_earlier_files(simulator, digest):
    """Others would simulate again what is there."""
    manifest = simulated._manifest(simulator, 0)
    assert simulated._digest(json.dumps(manifest)) == digest


def test_query_points(tmp_path):
    cars = NotchbackVolume(50, 8, 4, volume_points=30)
    dataset = make(tmp_path, cars, 2)
    assert dataset.folder.name.startswith("simulated_notchback_volume-")
    manifest = json.loads((dataset.folder / "manifest.json").read_text())
    names = [field["name"] for field in manifest["query_fields"]]
    assert names == ["velocity", "pressure"]
    assert dataset.query_fields == cars.query_fields
    assert dataset.query_features == cars.query_features
    assert dataset.query_coordinate_bounds == cars.query_coordinate_bounds
    assert dataset.sizes == [50, 50]
    raw = cars.sample(sample_rng(0, "train", 1))
    lower, upper = np.array(cars.query_coordinate_bounds)
    x = np.column_stack(
        [
            (raw["query_pos"] - lower) / (upper - lower),
            raw["query_signed_distance"],
            raw["query_distance_direction"],
        ]
    )
    data = dataset[1]
    np.testing.assert_allclose(data.query_x, x, rtol=1e-6, atol=1e-7)
    y = np.column_stack([raw["query_velocity"], raw["query_pressure"]])
    np.testing.assert_allclose(data.query_y, y, rtol=1e-6, atol=1e-5)
    (batch,) = DataLoader(dataset, batch_size=2, follow_batch=["query_pos"])
    assert batch.query_pos_batch.bincount().tolist() == [30, 30]
    (surface,) = make(tmp_path, Notchback(50, 8, 4), 1)
    assert torch.equal(surface.y, dataset[0].y)
    names = {"x", "y", "pos", "normal", "area"}
    assert set(surface.keys()) == names <= set(dataset[0].keys())


def test_names_that_query_points_take(tmp_path):
    for change in ({"fields": (Field("query_a"),)}, {"query_fields": (Field("pos"),)}):
        named = Named(fields=(Field("a"),))
        object.__setattr__(named, "query_fields", (Field("b"),))
        for name, value in change.items():
            object.__setattr__(named, name, value)
        with pytest.raises(ValueError, match="simulator must have"):
            make(tmp_path, named, 1)


def test_progress_says_simulated(tmp_path, noise, capfd):
    make(tmp_path, noise, 2)
    shown = capfd.readouterr().err
    assert "simulated data, simulated_noise, train" in shown
    assert "2/2" in shown
    make(tmp_path, noise, 2)
    assert capfd.readouterr().err == ""


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


@pytest.mark.parametrize("damage", [b"", b"no archive", b"PK\x03\x04 but not really"])
@pytest.mark.parametrize("pre_transform", [None, double])
def test_damaged_file(tmp_path, noise, damage, pre_transform):
    dataset = make(tmp_path, noise, pre_transform=pre_transform)
    before = dataset[1].y
    path = Path(dataset.processed_dir) / dataset.processed_file_names[1]
    path.write_bytes(damage)
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


def test_truncated_file(tmp_path, noise):
    dataset = make(tmp_path, noise)
    path = Path(dataset.raw_dir) / "000002.npz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="is damaged"):
        dataset[2]


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


def test_slices_pickles_and_loaders(tmp_path, noise):
    dataset = make(tmp_path, noise, 5, transform=double)
    part = dataset[1:4]
    assert len(part) == 3
    assert part[0].y.equal(dataset[1].y)
    assert len(dataset[[0, 4]]) == 2
    loaded = pickle.loads(pickle.dumps(part))
    assert loaded[2].y.equal(dataset[3].y)
    batches = list(DataLoader(dataset, batch_size=2, num_workers=1))
    assert [batch.num_graphs for batch in batches] == [2, 2, 1]
    assert batches[1].y.equal(torch.cat([dataset[2].y, dataset[3].y]))
    assert noise.samples() == 5


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"split": "../train"}, "split names a folder"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"num_workers": -2}, "num_workers must be at least 0, got -2"),
        ({"simulator": Noise}, "simulator must be an instance of a dataclass"),
        ({"simulator": Holds()}, "whose fields JSON can hold"),
        ({"simulator": Named()}, "at least one target"),
        ({"simulator": Named((Field("y"),))}, r"none may be called one of \['x', 'y'"),
        ({"simulator": Named((Field("a"),) * 2)}, "two fields are called 'a'"),
    ],
)
def test_bad_arguments(tmp_path, noise, options, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path, **{"simulator": noise, **options})
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("kind", ["list", "objects"])
def test_fields_must_be_numeric_arrays(tmp_path, kind):
    with pytest.raises(RuntimeError, match="'total' must be a numeric array"):
        make(tmp_path, Returns(kind), 1)


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="this system binds no process to cores"
)
def test_default_workers_are_the_cores_allowed(tmp_path, noise, monkeypatch):
    make(tmp_path, noise, 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 4})
    dataset = make(tmp_path, noise, 1, num_workers=None)
    assert dataset.num_workers == len(os.sched_getaffinity(0))


def script(tmp_path, text):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(text))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, path],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_script_without_a_main_guard(tmp_path):
    process = script(
        tmp_path,
        """
        from torch_geometric_flare.datasets import SimulatedDataset, simulated
        from torch_geometric_flare.simulation import Notchback

        SimulatedDataset("data", Notchback(50, 8, 4), 2, num_workers=2)
        """,
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    last = errors.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: a process that ran simulated_notchback died.")
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_workers_end_with_a_killed_script(tmp_path):
    process = script(
        tmp_path,
        """
        import os, time
        from dataclasses import dataclass
        from torch_geometric_flare.datasets import SimulatedDataset, simulated
        from torch_geometric_flare.fields import Field

        @dataclass(frozen=True)
        class Sleeps:
            name = "sleeps"
            fields = (Field("total"),)
            features = ()
            coordinate_bounds = None

            def sample(self, rng):
                open(f"worker-{os.getpid()}", "w").close()
                time.sleep(600)

        if __name__ == "__main__":
            SimulatedDataset("data", Sleeps(), 2, num_workers=1)
        """,
    )
    found = wait(lambda: list(tmp_path.glob("worker-*")))
    process.kill()
    process.communicate()
    worker = int(found[0].name.split("-")[1])
    assert wait(lambda: not running(worker))


def wait(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise TimeoutError


def running(pid):
    # An orphan that nobody has reaped is a zombie.
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True
    ).stdout.strip()
    return bool(state) and not state.startswith("Z")


@dataclass(frozen=True)
class Stubborn:
    """Converges where its draw is above a limit."""

    limit: float

    name: ClassVar[str] = "simulated_stubborn"
    fields: ClassVar = (Field("total"),)
    features: ClassVar = ()
    coordinate_bounds: ClassVar = None

    def sample(self, rng):
        value = rng.random()
        if value < self.limit:
            raise NotConverged("the residual stalled")
        return {"pos": np.full((1, 2), value), "total": np.array([value])}


def first_that_converges(limit, index):
    for attempt in range(10):
        value = sample_rng(0, "train", index, attempt).random()
        if value >= limit:
            return attempt, value
    raise AssertionError("choose another limit")


def test_solutions_that_did_not_converge_are_drawn_again(tmp_path, caplog):
    with caplog.at_level("WARNING"):
        dataset = make(tmp_path, Stubborn(0.6), 6)
    expected = [first_that_converges(0.6, index) for index in range(6)]
    assert [float(data.y) for data in dataset] == [
        np.float32(value) for _, value in expected
    ]
    attempts = [attempt for attempt, _ in expected]
    assert min(attempts) == 0 < max(attempts)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"simulated data, simulated_stubborn, train: {sum(attempts)} solutions did not "
        "converge and were drawn again"
    )
    for index, path in enumerate(sorted(Path(dataset.raw_dir).glob("*.npz"))):
        with np.load(path) as file:
            assert file.get("redraws", 0) == attempts[index]
            assert ("redraws" in file) == (attempts[index] > 0)
    assert set(dataset[attempts.index(max(attempts))].keys()) == {"x", "pos", "y"}


def test_redraws_do_not_depend_on_the_workers(tmp_path, caplog):
    here = SimulatedDataset(tmp_path / "a", Stubborn(0.6), 6, num_workers=0)
    there = SimulatedDataset(tmp_path / "b", Stubborn(0.6), 6, num_workers=1)
    assert contents(here) == contents(there)
    first, second = (record.getMessage() for record in caplog.records)
    assert first == second


def test_one_redraw_and_none(tmp_path, caplog):
    values = [sample_rng(0, "train", index).random() for index in range(4)]
    make(tmp_path, Stubborn(min(values)), 4)
    assert not caplog.records
    limit = np.nextafter(min(values), 1.0)
    assert first_that_converges(limit, int(np.argmin(values)))[0] == 1
    make(tmp_path, Stubborn(float(limit)), 4)
    assert "train: 1 solution did not converge and was drawn" in caplog.text


def test_no_draw_converges(tmp_path):
    message = "found no solution for sample 0 .*'train' with seed 0 in 10 draws .*mesh"
    with pytest.raises(RuntimeError, match=message):
        make(tmp_path, Stubborn(2.0), 1)
    assert not list(tmp_path.rglob("*.npz"))


def test_random_states_of_further_attempts():
    states = [sample_rng(0, "train", 3, attempt).random() for attempt in range(10)]
    assert len(set(states)) == 10
    assert states[0] == sample_rng(0, "train", 3).random()
    assert states[1] != sample_rng(0, "train", 1).random()


@dataclass(frozen=True)
class Windy(Noise):
    """Noise with a condition, and a parameter that it got later."""

    gust: float = field(default=0.0, metadata={"omit_default": True})
    conditions: ClassVar = (Field("wind", 1, "m/s"),)

    def sample(self, rng):
        return {**super().sample(rng), "wind": rng.random(1) + self.gust}


def test_conditions_are_kept_in_files(tmp_path):
    log = str(tmp_path / "log")
    dataset = SimulatedDataset(tmp_path, Windy(log), 3, num_workers=0)
    assert [str(field) for field in dataset.conditions] == ["wind (m/s)"]
    u = torch.cat([data.u for data in dataset])
    assert u.shape == (3, 1) and len(u.unique()) == 3
    again = SimulatedDataset(tmp_path, Windy(log), 3, num_workers=0, pre_transform=add)
    assert torch.equal(torch.cat([data.u for data in again]), u + 1)
    other = SimulatedDataset(tmp_path, Windy(log, gust=5.0), 3, num_workers=0)
    assert other.folder != dataset.folder and other[0].u > 5
    assert SimulatedDataset(tmp_path, Noise(log), 1, num_workers=0).conditions == ()


def add(data):
    data.u = data.u + 1
    return data


def test_folders_of_simulators_without_conditions_stay():
    from torch_geometric_flare.datasets.simulated import _digest, _manifest
    from torch_geometric_flare.simulation import AirfoilFlow, PipeFlow

    for simulator, label in (
        (PipeFlow(), "9ea36ead4e8c"),
        (PipeFlow(viscosity=0.007), "6c5e935f0e97"),
        (AirfoilFlow(), "8a49f61294b5"),
        (AirfoilFlow(mach=0.7), "bdf23feb791f"),
    ):
        assert _digest(json.dumps(_manifest(simulator, 0))) == label
    ranged = _manifest(AirfoilFlow(incidence=(-2.0, 2.0)), 0)
    assert ranged["conditions"] == [{"name": "incidence", "channels": 1, "unit": "°"}]
    assert ranged["parameters"]["incidence"] == [-2.0, 2.0]
