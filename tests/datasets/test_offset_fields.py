"""Fields that vary little about a large mean keep their digits."""

import warnings

import numpy as np
import pytest
import pyvista as pv
import torch
from torch import nn
from torch_geometric.loader import DataLoader

from torch_geometric_flare.datasets import MeshFolder
from torch_geometric_flare.surrogates import Surrogate
from torch_geometric_flare.training import SurrogateModule, evaluate
from torch_geometric_flare.transforms import Normalizer

OFFSET, AMPLITUDE = 101325.0, 0.01


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("torch_geometric_flare.mesh_io.read_mesh", pv.read)


def sine(mesh):
    return np.sin(np.asarray(mesh.cell_centers().points[:, 0], np.float64))


def write(folder):
    for number in range(3):
        mesh = pv.Sphere(radius=1 + number, theta_resolution=9, phi_resolution=9)
        mesh.clear_data()
        mesh.cell_data["p"] = OFFSET + AMPLITUDE * sine(mesh)
        mesh.cell_data["part"] = 2**40 + np.arange(mesh.n_cells)
        mesh.cell_data["t"] = sine(mesh)
        mesh.save(folder / f"b{number}.vtp")
    return folder


class Sine(nn.Module):
    """The normalized fields of the meshes, as a trained network would give them."""

    in_channels, out_channels = 3, 1

    def __init__(self, scale):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale, dtype=torch.float32))

    def forward(self, pos):
        return self.scale * pos[:, :1].sin()


def test_samples_hold_the_numbers_of_the_file(tmp_path):
    folder = write(tmp_path)
    options = {"fractions": (1, 0, 0), "location": "cell"}
    data = MeshFolder(folder, fields=["p", "part"], **options)[0]
    mesh = pv.read(folder / "b0.vtp")
    assert data.y.dtype == torch.float64
    assert (data.y[:, 0].numpy() == mesh["p"]).all()
    assert (data.y[:, 1].numpy() == mesh["part"]).all()
    plain = MeshFolder(folder, fields=["t"], **options)
    assert plain[0].y.dtype == torch.float32
    batch = next(iter(DataLoader(plain, batch_size=3)))
    assert batch.y.dtype == torch.float32


def test_predictions_and_errors_keep_the_digits(tmp_path):
    train = MeshFolder(write(tmp_path), fields=["p"], fractions=(1, 0, 0))
    arguments = train.surrogate_arguments()
    fitted = arguments["target_normalizer"]
    exact = Normalizer(torch.tensor([OFFSET], dtype=torch.float64), fitted.scale)
    model = Sine(AMPLITUDE / fitted.scale.item())
    surrogate = Surrogate(model, **{**arguments, "target_normalizer": exact})
    for data in train:
        predicted = surrogate.predict(data)
        assert predicted.dtype == torch.float64
        torch.testing.assert_close(predicted, data.y, rtol=0, atol=1e-6 * AMPLITUDE)
    assert evaluate(surrogate, train).max() < 1e-6 * AMPLITUDE / OFFSET
    mesh = pv.read(tmp_path / "b0.vtp")
    predicted = surrogate.predict_mesh(mesh, location="cell")
    np.testing.assert_allclose(
        predicted["p"] - OFFSET, AMPLITUDE * sine(mesh), rtol=0, atol=1e-6 * AMPLITUDE
    )


def test_decoding_keeps_single_precision_where_it_suffices():
    encoded = torch.randn(5, 1)
    assert Normalizer([3.0], [2.0]).decode(encoded).dtype == torch.float32
    noise = AMPLITUDE * torch.randn(50, 1).double()
    symmetric = OFFSET + torch.cat([noise, -noise])
    far = Normalizer.gaussian([symmetric])
    assert far.decode(encoded).dtype == torch.float64
    assert far.decode(encoded.bfloat16()).dtype == torch.float64
    torch.testing.assert_close(far.encode(far.decode(encoded)).float(), encoded)


def test_training_warns_of_such_a_field(tmp_path):
    train = MeshFolder(write(tmp_path), fields=["t", "p"], fractions=(1, 0, 0))
    arguments = train.surrogate_arguments()
    with pytest.warns(UserWarning, match="'p' varies by 0.00.* about 101325"):
        SurrogateModule(Sine(1.0), **arguments)
    only_t = MeshFolder(tmp_path, fields=["t"], fractions=(1, 0, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SurrogateModule(Sine(1.0), **only_t.surrogate_arguments())
