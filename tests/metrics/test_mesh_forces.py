import numpy as np
import pytest
import pyvista as pv

from torch_geometric_flare.metrics import mesh_forces

FLOW = {"speed": 2.0, "reference_area": 0.5, "reference_length": 2.0}


def ball(location, slope=-3.0):
    """A ball about (1, 1, 1), whose force is |slope| times its volume, upward."""
    mesh = pv.Sphere(
        radius=0.4, center=(1.0, 1.0, 1.0), theta_resolution=40, phi_resolution=40
    )
    mesh.clear_data()
    cells = location == "cell"
    height = (mesh.cell_centers() if cells else mesh).points[:, 2]
    (mesh.cell_data if cells else mesh.point_data)["pressure"] = slope * height
    return mesh


@pytest.mark.parametrize("location", ["cell", "point"])
def test_buoyancy(location):
    mesh = ball(location)
    found = mesh_forces(mesh, **FLOW, location=location)
    lift = 3 * mesh.volume / (0.5 * 2**2 * 0.5)
    expected = {"drag": 0, "lift": lift, "roll": lift / 2, "pitch": -lift / 2, "yaw": 0}
    assert list(found) == list(expected)
    np.testing.assert_allclose(
        list(found.values()), list(expected.values()), atol=0.01 * lift
    )


def test_units():
    mesh = ball("cell")
    expected = mesh_forces(mesh, **FLOW, location="cell")["lift"]
    pascal = mesh_forces(ball("cell", -3.75), **FLOW, location="cell", density=1.25)
    assert pascal["lift"] == pytest.approx(expected, rel=1e-6)
    large = mesh.scale(1000.0)  # the same values on a body in millimetres
    found = mesh_forces(large, **FLOW, location="cell", scale=0.001)
    assert found["lift"] == pytest.approx(expected, rel=1e-5)
    assert found["roll"] == pytest.approx(expected / 2, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"location": "vertex"}, "'cell' or 'point', got 'vertex'"),
        ({"scale": 0.0}, "scale must be finite and above zero, got 0.0"),
        ({"density": -1.0}, "density must be above zero, got -1.0"),
        ({"location": "point"}, r"no point data 'pressure', but \[\]"),
        ({"speed": 0.0}, "speed"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        mesh_forces(ball("cell"), **{**FLOW, "location": "cell", **arguments})
