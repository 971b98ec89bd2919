"""A surrogate knows whether it was trained at cells or at points."""

import pytest
import pyvista as pv
import torch

from torch_geometric_flare import FLARE
from torch_geometric_flare.datasets import MeshFolder
from torch_geometric_flare.fields import Field
from torch_geometric_flare.metrics import mesh_forces
from torch_geometric_flare.surrogates import Surrogate, load_surrogate, save_surrogate
from torch_geometric_flare.surrogates.description import describe_surrogate
from torch_geometric_flare.training import SurrogateModule
from torch_geometric_flare.transforms import Normalizer
from torch_geometric_flare.visualization import mesh_page, plot_mesh


def make(location):
    model = FLARE(3, 8, 1, num_layers=1, heads=2, num_latents=4)
    box = Normalizer.from_bounds([-1.0] * 3, [1.0] * 3)
    fields = [Field("pressure", 1, "m²/s²")]
    return Surrogate(
        model, Normalizer.identity(1), box, fields=fields, location=location
    )


def ball():
    mesh = pv.Sphere(radius=0.9, theta_resolution=8, phi_resolution=8)
    mesh.clear_data()
    return mesh


@pytest.mark.parametrize("location", ["cell", "point"])
def test_it_travels_and_is_the_default(location, tmp_path):
    save_surrogate(make(location), tmp_path / "saved.ckpt")
    loaded = load_surrogate(tmp_path / "saved.ckpt")
    assert loaded.location == location
    mesh = loaded.predict_mesh(ball())
    here, there = mesh.cell_data, mesh.point_data
    if location == "point":
        here, there = there, here
    assert "pressure" in here and "pressure" not in there
    # So do pictures and pages of the mesh.
    assert plot_mesh(mesh, loaded.fields[0], title="ball").axes
    assert "<html" in mesh_page(mesh, loaded.fields[0], title="ball")
    # What follows finds the prediction where it is, whatever else the mesh has.
    there["pressure"] = [1e6] * (mesh.n_points + mesh.n_cells - len(here["pressure"]))
    flow = {"speed": 1.0, "reference_area": 1.0}
    assert mesh_forces(mesh, **flow) == mesh_forces(mesh, **flow, location=location)
    assert abs(mesh_forces(mesh, **flow)["drag"]) < 100


@pytest.mark.parametrize(("trained", "asked"), [("cell", "point"), ("point", "cell")])
def test_another_one_is_said(trained, asked):
    with pytest.warns(UserWarning, match=f"trained at the {trained}s"):
        mesh = make(trained).predict_mesh(ball(), location=asked)
    data = mesh.cell_data if asked == "cell" else mesh.point_data
    assert "pressure" in data


@pytest.mark.parametrize("location", ["cell", "point"])
def test_where_it_is_not_known(location):
    """As in files of before."""
    description = describe_surrogate(make(None))
    assert description["location"] is None
    assert "pressure" in make(None).predict_mesh(ball()).point_data
    mesh = make(None).predict_mesh(ball(), location=location)
    assert "pressure" in (mesh.cell_data if location == "cell" else mesh.point_data)
    with pytest.raises(ValueError, match="'face'"):
        make("face")
    with pytest.raises(ValueError, match="'face'"):
        make(None).predict_mesh(ball(), location="face")


@pytest.mark.parametrize("location", ["cell", "point"])
def test_folders_of_meshes_tell_it(location, tmp_path, monkeypatch):
    monkeypatch.setattr("torch_geometric_flare.mesh_io.read_mesh", pv.read)
    mesh = ball()
    mesh.cell_data["p"] = mesh.cell_centers().points[:, 0]
    mesh.point_data["p"] = mesh.points[:, 0]
    mesh.save(tmp_path / "ball.vtp")
    train = MeshFolder(tmp_path, fields=["p"], location=location, fractions=(1, 0, 0))
    torch.manual_seed(0)
    model = FLARE(3, 8, 1, num_layers=1, heads=2, num_latents=4)
    module = SurrogateModule(model, **train.surrogate_arguments())
    assert module.surrogate.location == location
