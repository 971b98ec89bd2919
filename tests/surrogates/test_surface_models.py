"""A model of surfaces says so when it meets a volume mesh."""

import warnings

import pytest
import pyvista as pv

from torch_geometric_flare import FLARE
from torch_geometric_flare.datasets import MeshFolder
from torch_geometric_flare.surrogates import Surrogate, load_surrogate, save_surrogate
from torch_geometric_flare.training import SurrogateModule


@pytest.fixture
def train(tmp_path, monkeypatch):
    monkeypatch.setattr("torch_geometric_flare.mesh_io.read_mesh", pv.read)
    for number in range(3):
        ball = pv.Sphere(radius=1 + 0.1 * number, theta_resolution=8, phi_resolution=8)
        ball.clear_data()
        ball.cell_data["p"] = ball.cell_centers().points[:, 0]
        ball.save(tmp_path / f"ball_{number}.vtp")
    return MeshFolder(tmp_path, fields=["p"], fractions=(1, 0, 0))


def test_volume_cells_are_warned_about(train, tmp_path):
    model = FLARE(3, 8, 1, num_layers=1, heads=2, num_latents=4)
    arguments = train.surrogate_arguments()
    assert SurrogateModule(model, **arguments).surrogate.surface
    save_surrogate(Surrogate(model, **arguments), tmp_path / "model.pt")
    surrogate = load_surrogate(tmp_path / "model.pt")
    block = pv.ImageData(dimensions=(4, 4, 4), spacing=(0.5,) * 3, origin=(-0.7,) * 3)
    for mesh in (block, block.cast_to_unstructured_grid()):
        with pytest.warns(UserWarning, match="volume cells"):
            surrogate.predict_mesh(mesh)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        surrogate.predict_mesh(block.extract_surface(algorithm=None))
        surrogate.predict_mesh(pv.read(tmp_path / "ball_0.vtp"))


def test_volumes_are_no_surface(train, tmp_path):
    folder = tmp_path / "volumes"
    folder.mkdir()
    block = pv.ImageData(dimensions=(3, 3, 3)).cast_to_unstructured_grid()
    block.cell_data["p"] = block.cell_centers().points[:, 0]
    block.save(folder / "block.vtu")
    volumes = MeshFolder(folder, fields=["p"], fractions=(1, 0, 0))
    assert not volumes.surrogate_arguments()["surface"]
