import numpy as np
import pytest
import pyvista as pv
import torch

from tests.examples.predicting import (
    LOWER,
    UPPER,
    body,
    main,
    register,
    save,
)
from torch_geometric_flare.fields import Field
from torch_geometric_flare.mesh_io import mesh_normals, read_mesh
from torch_geometric_flare.surrogates import Surrogate, save_surrogate
from torch_geometric_flare.transforms import Normalizer

BOX = Normalizer.from_bounds(LOWER, UPPER)


class Echo(torch.nn.Module):
    """Predicts its own input."""

    def __init__(self):  # without arguments, which a checkpoint would store
        super().__init__()

    def forward(self, x):
        return x


def save_echo(monkeypatch, path, fields, features, coordinates=BOX):
    """A surrogate that gives back its input: coordinates, then features."""
    register(monkeypatch, Echo)
    channels = sum(field.channels for field in fields)
    target = Normalizer.identity(channels)
    save_surrogate(
        Surrogate(Echo(), target, coordinates, fields=fields, features=features), path
    )
    return str(path)


def test_fields_and_inputs_have_the_names_of_the_checkpoint(
    tmp_path, monkeypatch, capsys
):
    inputs = (Field("normal", 3), Field("area", 1, "m²"), Field("inlet", 2, "m/s"))
    fields = (Field("place", 3), Field("direction", 3), Field("size", 1, "m²"))
    path = save_echo(
        monkeypatch, tmp_path / "echo.ckpt", (*fields, Field("wind", 2)), inputs
    )
    mesh = save(body(1000.0), tmp_path / "car.stl")
    arguments = [path, str(mesh), "--scale=0.001", "--set=inlet=3,-4.5"]
    for cells in (False, True):
        assert main([*arguments, "--cells"] if cells else arguments) == 0
        assert "size (m²) at" in capsys.readouterr().out
        result = pv.read(tmp_path / "car_stl_predicted.vtp")
        data = result.cell_data if cells else result.point_data
        found = read_mesh(mesh)
        np.testing.assert_allclose(
            data["direction"], mesh_normals(found, cells=cells), atol=1e-6
        )
        assert data["size"].sum() == pytest.approx(body().area, rel=1e-4)
        assert (data["wind"] == [3.0, -4.5]).all()
        assert result.field_data["size_unit"].tolist() == ["m²"]
        points = (result.cell_centers() if cells else result).points * 1e-3
        size = np.subtract(UPPER, LOWER)
        np.testing.assert_allclose(data["place"], (points - LOWER) / size, atol=1e-5)


def test_an_input_that_is_missing_is_named(tmp_path, monkeypatch, capsys):
    fields = (Field("field", 4),)
    inputs = (Field("permeability", 1, "m²"),)
    path = save_echo(monkeypatch, tmp_path / "echo.ckpt", fields, inputs)
    plain = body()
    mesh = save(plain, tmp_path / "car.vtp")

    def error(*options):
        assert main([path, str(mesh), *options]) == 2
        return capsys.readouterr().err

    assert "lacks the input permeability (m²) of the model" in error()
    assert "set permeability=VALUE" in error()
    assert "takes permeability (m²)" in error("--set=porosity=1")
    assert "has 2 channels, but the model takes 1" in error("--set=permeability=1,2")
    assert "give NAME=VALUE" in error("--set=permeability=high")
    assert "give NAME=VALUE" in error("--set=permeability")
    assert "not finite" in error("--set=permeability=nan")
    assert main([path, str(mesh), "--set=permeability=2.5"]) == 0
    result = pv.read(tmp_path / "car_vtp_predicted.vtp")
    assert (result.point_data["field"][:, 3] == 2.5).all()

    plain.point_data["permeability"] = np.arange(plain.n_points)
    save(plain, mesh)
    assert main([path, str(mesh)]) == 0
    result = pv.read(tmp_path / "car_vtp_predicted.vtp")
    np.testing.assert_array_equal(
        result.point_data["field"][:, 3], np.arange(plain.n_points)
    )
    assert "add cell data of that name" in error("--cells")


def test_meshes_of_the_plane(tmp_path, monkeypatch, capsys):
    plane = Normalizer.from_bounds((0.0, 0.0), (2.0, 1.0))
    path = save_echo(monkeypatch, tmp_path / "e.ckpt", (Field("x", 2),), (), plane)
    flat = pv.Plane(i_size=2, j_size=1).translate((1.0, 0.5, 7.0))
    mesh = save(flat, tmp_path / "plate.vtu")
    assert main([path, str(mesh)]) == 0
    result = pv.read(tmp_path / "plate_vtu_predicted.vtu")
    np.testing.assert_allclose(
        result.point_data["x"] * [2, 1], flat.points[:, :2], atol=1e-6
    )
    assert main([path, str(save(body(), tmp_path / "car.stl"))]) == 2
    assert "is not flat, but the model was trained in the plane" in (
        capsys.readouterr().err
    )
