import numpy as np
import pytest
import pyvista as pv
import torch

from torch_geometric_flare.fields import Field
from torch_geometric_flare.mesh_io import find_features, mesh_areas, mesh_normals

NORMAL, AREA = Field("normal", 3), Field("area", 1, "m²")
SPEED, WIND = Field("speed", 1, "m/s"), Field("wind", 2, "m/s")


@pytest.fixture
def mesh():
    return pv.Sphere(theta_resolution=8, phi_resolution=8)


@pytest.mark.parametrize("cells", [False, True])
def test_constants_then_data_then_geometry(mesh, cells):
    number = mesh.n_cells if cells else mesh.n_points
    data = mesh.cell_data if cells else mesh.point_data
    data["speed"] = np.arange(number)
    arguments = {"cells": cells, "scale": 0.1}
    found = find_features(
        mesh, (AREA, SPEED, NORMAL, WIND), {"wind": [1.0, 2.0]}, **arguments
    )
    assert list(found) == ["area", "speed", "normal", "wind"]
    torch.testing.assert_close(found["area"], mesh_areas(mesh, cells=cells) * 0.01)
    assert torch.equal(found["normal"], mesh_normals(mesh, cells=cells))
    assert found["speed"].flatten().tolist() == list(range(number))
    assert found["wind"].tolist() == [[1.0, 2.0]] * number

    data["area"] = np.full(number, 7.0)  # in the unit of the training: not scaled
    given = find_features(mesh, (AREA, SPEED), {"speed": [3.0]}, **arguments)
    assert given["area"].tolist() == [[7.0]] * number
    assert given["speed"].tolist() == [[3.0]] * number


def test_no_inputs(mesh):
    assert find_features(mesh, ()) == {}


@pytest.mark.parametrize(
    ("features", "constants", "message"),
    [
        ((SPEED,), {}, r"lacks the input speed \(m/s\) .* or set speed=VALUE"),
        ((Field("normal", 2),), {}, "lacks the input normal"),
        (
            (SPEED,),
            {"sped": [1.0]},
            r"'sped' is set, but the model takes speed \(m/s\)",
        ),
        ((), {"speed": [1.0]}, "no inputs besides the coordinates"),
        ((SPEED,), {"speed": [1.0, 2.0]}, "has 2 channels, but the model takes 1"),
        ((SPEED,), {"speed": [np.inf]}, "not finite"),
        ((Field("name"),), {}, "'name' are not numbers"),
        ((Field("hole"),), {}, r"hole has .*not finite"),
    ],
)
def test_errors(mesh, features, constants, message):
    mesh.point_data["name"] = [f"p{i}" for i in range(mesh.n_points)]
    mesh.point_data["hole"] = np.full(mesh.n_points, np.nan)
    with pytest.raises(ValueError, match=message):
        find_features(mesh, features, constants)


def test_field_data_hold_everywhere(mesh):
    mesh.field_data["wind"] = np.array([1.0, 2.0])
    assert find_features(mesh, (WIND,))["wind"].tolist() == [[1.0, 2.0]] * mesh.n_points
    assert find_features(mesh, (WIND,), {"wind": [3, 4]})["wind"][0].tolist() == [3, 4]
    with pytest.raises(ValueError, match="'wind' must be 1 numbers, got 2 of type"):
        find_features(mesh, (Field("wind"),))
