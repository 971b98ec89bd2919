"""Meshes in a national grid, and time stamps, give what they give near the origin."""

import numpy as np
import pytest
import pyvista as pv
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from torch_geometric_flare import FLARE
from torch_geometric_flare.datasets import MeshFolder
from torch_geometric_flare.fields import Field
from torch_geometric_flare.nn import MeshGraphNet
from torch_geometric_flare.surrogates import Surrogate
from torch_geometric_flare.transforms import MeshEdges, Normalizer, make_input

OFFSETS = {
    "UTM": (448251.37, 5411932.81, 120.0),
    "national grid": (2683141.2, 1247956.9, 408.3),
    "one axis": (0.0, 0.0, -3.2e7),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("torch_geometric_flare.mesh_io.read_mesh", pv.read)


def body(number, offset):
    """An uneven ball: no two points have neighbours at equal distances."""
    mesh = pv.Sphere(radius=10 + number, theta_resolution=9, phi_resolution=9)
    mesh.clear_data()
    uneven = np.random.default_rng(number).uniform(0.8, 1.2, (mesh.n_points, 3))
    local = mesh.points.astype(np.float64) * uneven
    mesh.points = local + offset
    mesh.point_data["p"] = local[:, 0]
    mesh.cell_data["p"] = local[mesh.regular_faces].mean(axis=1)[:, 0]
    return mesh


def write(folder, offset, start=0.0):
    folder.mkdir()
    for number in range(4):
        mesh = body(number, offset)
        mesh.field_data["time"] = np.array([start + 3600.0 * number + 0.5])
        mesh.save(folder / f"b{number}.vtp")
    return folder


def open_folder(folder, location):
    options = {"location": location, "features": ["time"], "fractions": (1, 0, 0)}
    return MeshFolder(folder, "train", fields=["p"], **options)


def predict(dataset, mesh, kind, location):
    arguments = dataset.surrogate_arguments()
    torch.manual_seed(0)
    sizes = {"hidden_channels": 8, "num_layers": 1}
    if kind is FLARE:
        model = FLARE(4, out_channels=1, heads=2, num_latents=4, **sizes)
    else:
        model = MeshGraphNet(4, out_channels=1, length_scale=2.0, **sizes)
    surrogate = Surrogate(model, **arguments)
    mesh.field_data["time"] = dataset[2].time[:1].numpy().ravel()
    found = surrogate.predict_mesh(mesh, location=location)
    on_mesh = (found.cell_data if location == "cell" else found.point_data)["p"]
    return surrogate.predict(dataset[2]), torch.tensor(on_mesh)


@pytest.mark.parametrize("location", ["point", "cell"])
@pytest.mark.parametrize("name", OFFSETS)
@pytest.mark.parametrize("kind", [FLARE, MeshGraphNet])
def test_samples_normalisers_edges_and_predictions(tmp_path, name, location, kind):
    offset, start = np.array(OFFSETS[name]), 1.7e9
    near = open_folder(write(tmp_path / "near", np.zeros(3)), location)
    far = open_folder(write(tmp_path / "far", offset, start), location)
    for here, there in zip(near, far, strict=True):
        assert len(there.pos.unique(dim=0)) == len(there.pos)
        torch.testing.assert_close(
            there.pos - torch.tensor(offset), here.pos.double(), rtol=0, atol=1e-6
        )
        torch.testing.assert_close(
            there.time.double() - start, here.time.double(), rtol=0, atol=1e-6
        )
        assert torch.equal(MeshEdges()(there).edge_index, MeshEdges()(here).edge_index)
        torch.testing.assert_close(there.normal, here.normal, rtol=0, atol=1e-5)
        torch.testing.assert_close(there.area, here.area, rtol=1e-5, atol=0)
    batch = next(iter(DataLoader(list(far), batch_size=4)))
    assert batch.pos.dtype == torch.float64
    assert near[0].pos.dtype == torch.float32
    expected = predict(near, body(2, np.zeros(3)), kind, location)
    found = predict(far, body(2, offset), kind, location)
    assert expected[0].std() > 0.01
    for here, there in zip(expected, found, strict=True):
        assert there.dtype == torch.float32
        torch.testing.assert_close(there, here, rtol=0, atol=2e-5)


def test_positions_of_the_caller():
    lower = torch.tensor(OFFSETS["UTM"], dtype=torch.float64)
    torch.manual_seed(0)
    model = FLARE(3, 8, 1, num_layers=1, heads=2, num_latents=4)
    share = torch.rand(40, 3, dtype=torch.float64)
    far = Surrogate(
        model, Normalizer.identity(1), Normalizer.from_bounds(lower, lower + 10)
    )
    near = Surrogate(
        model, Normalizer.identity(1), Normalizer.from_bounds([0.0] * 3, [10.0] * 3)
    )
    expected = near.predict(10 * share)
    torch.testing.assert_close(far.predict(lower + 10 * share), expected)
    torch.testing.assert_close(far.predict(Data(pos=lower + 10 * share)), expected)


def test_large_integers_are_features_to_the_last_digit():
    stamp = 1_700_000_000 + torch.arange(5)
    data = Data(pos=torch.rand(5, 3), stamp=stamp, part=torch.arange(5))
    x = make_input(data, (Field("stamp"), Field("part")))
    assert x[:, 3].long().tolist() == stamp.tolist()
    assert make_input(data, (Field("part"),)).dtype == torch.float32
