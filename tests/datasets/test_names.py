"""Names of fields and features are anything that a solver writes."""

import numpy as np
import pytest
import pyvista as pv
import torch
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import FixedPoints

from torch_geometric_flare import FLARE
from torch_geometric_flare.datasets import MeshFolder
from torch_geometric_flare.fields import Field
from torch_geometric_flare.surrogates import Surrogate, load_surrogate, save_surrogate
from torch_geometric_flare.transforms import feature_key

NAMES = [
    *("y", "x", "pos", "area", "normal", "batch", "ptr", "face", "num_nodes", "grid"),
    *("wall_index", "mini_batch_age", "num_layers", "edge_length", "node_kind", "size"),
    *("keys", "static-pressure (Pa)", "edge-index [1]", "cells", "u", "edge_index"),
]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("torch_geometric_flare.mesh_io.read_mesh", pv.read)


def ball(number):
    mesh = pv.Sphere(radius=1 + number / 10, theta_resolution=6, phi_resolution=5)
    mesh.clear_data()
    places = mesh.cell_centers().points.astype(float)
    mesh.cell_data["stress"] = 100 + places[:, 0]
    for name in ("plain", *NAMES):
        mesh.cell_data[name] = 5 + places[:, 1] + number
    return mesh


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        ball(number).save(tmp_path / f"b{number}.vtp")
    return tmp_path


def open_folder(folder, feature):
    options = {"features": [feature], "fractions": (1, 0, 0)}
    return MeshFolder(folder, "train", fields=["stress"], **options)


@pytest.mark.parametrize("name", NAMES)
def test_a_feature_of_any_name_does_what_one_of_a_plain_name_does(folder, name):
    plain, other = open_folder(folder, "plain"), open_folder(folder, name)
    key = feature_key(other.features[0].name)
    for here, there in zip(plain, other, strict=True):
        for part in ("y", "pos", "area", "normal"):
            assert torch.equal(here[part], there[part])
        assert torch.equal(there[key], here.plain)
        assert there.num_nodes == here.num_nodes
        drawn = FixedPoints(7, replace=False)(there.clone())
        assert len(drawn[key]) == len(drawn.pos) == 7
    predictions = []
    for dataset in (plain, other):
        torch.manual_seed(0)
        model = FLARE(4, 8, 1, num_layers=1, heads=2, num_latents=4)
        surrogate = Surrogate(model, **dataset.surrogate_arguments())
        batch = next(iter(DataLoader(list(dataset), batch_size=3)))
        on_mesh = surrogate.predict_mesh(ball(1)).cell_data["stress"]
        predictions.append((surrogate.predict(batch), torch.tensor(on_mesh)))
    for here, there in zip(*predictions, strict=True):
        assert torch.equal(here, there)
    assert predictions[0][0].std() > 0


@pytest.mark.parametrize("name", ["static-pressure (Pa)", "edge-index [1]", "batch"])
def test_a_field_is_read_from_its_source(folder, name):
    field = Field("pressure", 1, "Pa", source=name)
    dataset = MeshFolder(folder, fields=[field], fractions=(1, 0, 0))
    for number, data in enumerate(dataset):
        expected = torch.tensor(ball(number).cell_data[name], dtype=torch.float32)
        assert torch.equal(data.y[:, 0], expected)
    alone = MeshFolder(folder, fields=[name], fractions=(1, 0, 0))
    assert torch.equal(alone[1].y, dataset[1].y)
    assert alone.fields[0].array == name


def test_the_source_travels_and_finds_the_truth(folder, tmp_path):
    fields = [Field("pressure", 1, "Pa", source="static-pressure (Pa)")]
    options = {"features": [Field("age", source="mini_batch_age")]}
    dataset = MeshFolder(folder, fields=fields, fractions=(1, 0, 0), **options)
    model = FLARE(4, 8, 1, num_layers=1, heads=2, num_latents=4)
    surrogate = Surrogate(model, **dataset.surrogate_arguments())
    save_surrogate(surrogate, tmp_path / "saved.ckpt")
    loaded = load_surrogate(tmp_path / "saved.ckpt")
    assert loaded.fields == surrogate.fields
    assert loaded.features == surrogate.features
    mesh = loaded.predict_mesh(ball(1))
    truth = ball(1).cell_data["static-pressure (Pa)"]
    predicted = loaded.predict(dataset[1])[:, 0].numpy()
    np.testing.assert_array_equal(mesh.cell_data["pressure_true"], truth)
    np.testing.assert_allclose(mesh.cell_data["pressure"], predicted, rtol=1e-6)
    np.testing.assert_allclose(
        mesh.cell_data["pressure_error"], predicted - truth, rtol=1e-5
    )
    # Another mesh calls them otherwise.
    other = ball(1)
    other.cell_data["P"] = truth + 1
    other.cell_data["AGE"] = other.cell_data["mini_batch_age"]
    del other.cell_data["static-pressure (Pa)"], other.cell_data["mini_batch_age"]
    with pytest.raises(ValueError, match="mini_batch_age"):
        loaded.predict_mesh(other)
    arrays = [Field("pressure", source="P"), Field("age", source="AGE")]
    renamed = loaded.predict_mesh(other, arrays=arrays)
    np.testing.assert_array_equal(renamed["pressure"], mesh["pressure"])
    np.testing.assert_array_equal(renamed["pressure_true"], truth + 1)
    with pytest.raises(ValueError, match="'speed'"):
        loaded.predict_mesh(other, arrays=[Field("speed", source="P")])
