import json
import pickle
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch_geometric.loader import DataLoader

from tests.datasets.simulators import Noise, Toy, double, make
from torch_geometric_flare.datasets import SimulatedDataset, simulated
from torch_geometric_flare.datasets.simulator import sample_rng
from torch_geometric_flare.fields import Field
from torch_geometric_flare.simulation import (
    AirfoilFlow,
    DarcyFlow,
    Notchback,
    NotchbackVolume,
    PipeFlow,
)


@dataclass(frozen=True)
class Returns(Toy):
    kind: str

    name: ClassVar[str] = "returns"

    def sample(self, rng):
        total = {"list": [1.0], "objects": np.array([None])}[self.kind]
        return {"pos": np.zeros((1, 2)), "total": total}


@dataclass(frozen=True)
class Holds(Toy):
    value: object = field(default_factory=object)

    name: ClassVar[str] = "holds"

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
    attempts = [sample_rng(0, "train", 3, attempt).random() for attempt in range(10)]
    assert len(set(attempts)) == 10
    assert attempts[0] == sample_rng(0, "train", 3).random()
    assert attempts[1] != sample_rng(0, "train", 1).random()


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
    [
        (Notchback(), "93910b8b38b0"),
        (DarcyFlow(), "575f4dcbe49b"),
        (PipeFlow(), "9ea36ead4e8c"),
        (PipeFlow(viscosity=0.007), "6c5e935f0e97"),
        (AirfoilFlow(), "8a49f61294b5"),
        (AirfoilFlow(mach=0.7), "bdf23feb791f"),
    ],
    ids=repr,
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


def test_conditions_in_the_manifest():
    ranged = simulated._manifest(AirfoilFlow(incidence=(-2.0, 2.0)), 0)
    assert ranged["conditions"] == [{"name": "incidence", "channels": 1, "unit": "°"}]
    assert ranged["parameters"]["incidence"] == [-2.0, 2.0]
