"""Derivatives by shape and condition against central differences, in float64."""

import numpy as np
import pytest
import pyvista as pv
import torch

from torch_geometric_flare.fields import Field
from torch_geometric_flare.metrics import mesh_forces
from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.surrogates import Flow, Surrogate
from torch_geometric_flare.transforms import Normalizer

FLOW = Flow(speed=2.0, reference_area=1.5)
FEATURES = (Field("normal", 3), Field("area"))
SPEED = {"speed": [1.3]}


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


def make_surrogate(location="cell", features=FEATURES, dtype=torch.float64, **options):
    width = 3 + sum(field.channels for field in features)
    model = FLARE(
        width, 16, 2, num_layers=2, heads=2, num_latents=4, condition_channels=1
    )
    surrogate = Surrogate(
        model,
        Normalizer([0.5, 0.1], [2.0, 1.0]),
        Normalizer.from_bounds([-1.2] * 3, [1.2] * 3),
        fields=[Field("pressure"), Field("other")],
        features=features,
        location=location,
        conditions=[Field("speed", 1, "m/s")],
        condition_normalizer=Normalizer([1.0], [0.5]),
        **{"weighted": True, **options},
    )
    return surrogate.to(dtype)


def body(kind="quads"):
    """A closed body without symmetry, of triangles and quads or of triangles."""
    ball = pv.Sphere(theta_resolution=9, phi_resolution=8)
    if kind == "quads":
        ball = pv.ImageData(dimensions=(4, 3, 4), spacing=(0.3, 0.4, 0.25))
        ball = ball.extract_surface(algorithm="dataset_surface").clean()
        ball.points -= ball.center
    ball.clear_data()
    points = np.asarray(ball.points, np.float64)
    rng = np.random.default_rng(0)
    ball.points = points * (1.0, 1.2, 0.8) + 0.02 * rng.standard_normal(points.shape)
    return ball


def moved(mesh, displacement):
    copy = mesh.copy()
    copy.points = np.asarray(mesh.points, np.float64) + displacement
    return copy


def central_difference(measure, step=1e-4):
    """Of fourth order."""
    near, far = ((measure(s * step) - measure(-s * step)) for s in (1, 2))
    return (8 * near - far) / (12 * step)


def own(fields, surface):
    """All that a function can be made of."""
    pressure, other = fields["pressure"][:, 0], fields["other"][:, 0]
    first = (pressure.square() * surface.area).sum()
    return first + (other * surface.normal[:, 0] * surface.pos[:, 1].sin()).sum()


@pytest.mark.parametrize("location", ["cell", "point"])
@pytest.mark.parametrize("kind", ["quads", "triangles"])
@pytest.mark.parametrize("quantity", ["drag", own])
def test_derivative_by_vertices(location, kind, quantity):
    surrogate, mesh = make_surrogate(location), body(kind)
    options = {"flow": FLOW, "constants": SPEED}
    found = surrogate.sensitivity(mesh, quantity, **options)
    name = quantity if quantity == "drag" else "own"
    gradient = np.asarray(found.mesh.point_data[f"{name}_gradient"])
    assert gradient.shape == (mesh.n_points, 3) and gradient.dtype == np.float64
    rng = np.random.default_rng(1)
    for _ in range(3):
        direction = rng.standard_normal(gradient.shape)

        def measure(step, direction=direction):
            there = moved(mesh, step * direction)
            return surrogate.sensitivity(there, quantity, **options).value

        expected = central_difference(measure)
        assert (gradient * direction).sum() == pytest.approx(expected, rel=1e-6)


def test_each_part_of_the_derivative_counts():
    """Without the fields, the normals or the weights it would be another."""
    surrogate, mesh = make_surrogate(), body()
    options = {"flow": FLOW, "constants": SPEED}
    key = "drag_gradient"
    whole = surrogate.sensitivity(mesh, **options).mesh[key]
    fixed = surrogate.predict_mesh(mesh, constants=SPEED)["pressure"]

    def frozen(fields, surface):
        pressure = torch.from_numpy(fixed).double()
        return -(pressure[:, None] * surface.vectors).sum(0)[0] / (0.5 * 4 * 1.5)

    explicit = surrogate.sensitivity(mesh, frozen, **options).mesh["frozen_gradient"]
    scale = np.abs(whole).max()
    assert np.abs(whole - explicit).max() > 0.01 * scale
    for weight in ("none", "area"):
        other = surrogate.sensitivity(mesh, weight=weight, **options)
        same = np.allclose(other.mesh[key], whole)
        assert same == (weight == "area")


def test_derivative_by_conditions():
    surrogate, mesh = make_surrogate(), body()
    options = {"flow": FLOW, "constants": {"speed": [1.25]}}
    found = surrogate.sensitivity(mesh, "lift", "u", **options)
    assert found.mesh is None

    def measure(step):
        constants = {"speed": [1.25 + step]}
        again = surrogate.sensitivity(mesh, "lift", "u", flow=FLOW, constants=constants)
        return again.value

    # Conditions of a mesh are in single precision, which holds this step.
    expected = central_difference(measure, 2.0**-6)
    assert found.conditions["speed"].shape == (1,)
    assert found.conditions["speed"].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("location", ["cell", "point"])
def test_value_and_fields_are_those_of_a_prediction(location):
    surrogate, mesh = make_surrogate(location, dtype=torch.float32), body()
    found = surrogate.sensitivity(mesh, "lift", flow=FLOW, constants=SPEED)
    predicted = surrogate.predict_mesh(mesh, constants=SPEED)
    forces = mesh_forces(predicted, speed=2.0, reference_area=1.5)
    assert found.value == pytest.approx(forces["lift"], rel=1e-4, abs=1e-6)
    np.testing.assert_allclose(
        found.mesh.get_array("pressure", preference=location),
        predicted.get_array("pressure", preference=location),
        rtol=1e-4,
        atol=1e-5,
    )


def test_chunks_change_nothing():
    surrogate, mesh = make_surrogate(), body("triangles")
    options = {"flow": FLOW, "constants": SPEED}
    whole = surrogate.sensitivity(mesh, **options)
    chunked = surrogate.sensitivity(mesh, chunk_size=17, **options)
    assert surrogate.model.chunk_size is None
    assert chunked.value == pytest.approx(whole.value, rel=1e-12)
    np.testing.assert_allclose(
        chunked.mesh["drag_gradient"],
        whole.mesh["drag_gradient"],
        rtol=1e-8,
        atol=1e-12,
    )


def test_the_unit_of_length():
    surrogate, mesh = make_surrogate(), body()
    options = {"flow": FLOW, "constants": SPEED}
    metres = surrogate.sensitivity(mesh, **options)
    large = mesh.copy()
    large.points = mesh.points * 1000.0
    found = surrogate.sensitivity(large, scale=1e-3, **options)
    assert found.value == pytest.approx(metres.value, rel=1e-6)
    np.testing.assert_allclose(
        found.mesh["drag_gradient"],
        metres.mesh["drag_gradient"] / 1000,
        rtol=1e-4,
        atol=1e-9,
    )


def test_normals_of_the_mesh_keep_their_values_and_turn_with_it():
    """Arrays that a mesh brings are taken as they are."""
    surrogate, mesh = make_surrogate(), body()
    bare = surrogate.sensitivity(mesh, own, constants=SPEED)
    mesh.compute_normals(point_normals=False, auto_orient_normals=True, inplace=True)
    found = surrogate.sensitivity(mesh, own, constants=SPEED)
    assert found.value == pytest.approx(bare.value, rel=1e-5)
    np.testing.assert_allclose(
        found.mesh["own_gradient"], bare.mesh["own_gradient"], rtol=1e-3, atol=1e-5
    )


def area(fields, surface):
    return surface.area.sum()


def volume(fields, surface):
    return (surface.vectors * surface.centers).sum() / 3


@pytest.mark.parametrize("location", ["cell", "point"])
def test_known_derivatives_of_a_ball(location):
    """Moving a sphere out changes its volume by 1 and its area by 2/R, per area."""
    surrogate = make_surrogate(location)
    ball = pv.Icosphere(radius=0.8, nsub=3)
    ball.points = ball.points.astype(np.float64)
    for quantity, expected in ((volume, 1.0), (area, 2 / 0.8)):
        found = surrogate.sensitivity(ball, quantity, constants=SPEED, smoothing=0.3)
        name = quantity.__name__
        per_area = found.mesh[f"{name}_normal_gradient"]
        np.testing.assert_allclose(per_area, expected, rtol=0.2)
        assert per_area.mean() == pytest.approx(expected, rel=0.02)
        smooth = found.mesh[f"{name}_smooth_gradient"]
        np.testing.assert_allclose(smooth, expected, rtol=0.05)
        inward = found.mesh[f"{name}_displacement"]
        lengths = np.linalg.norm(inward, axis=1)
        assert lengths.max() == pytest.approx(1.0)
        assert ((inward * ball.points).sum(1) < 0).all()


def test_a_step_along_the_displacement_lowers_the_quantity():
    surrogate, mesh = make_surrogate(), body("triangles")
    options = {"flow": FLOW, "constants": SPEED}
    found = surrogate.sensitivity(mesh, smoothing=0.2, **options)
    direction = np.asarray(found.mesh["drag_displacement"])
    expected = (found.mesh["drag_gradient"] * direction).sum()
    assert expected < 0
    after = surrogate.sensitivity(moved(mesh, 1e-4 * direction), **options)
    assert after.value - found.value == pytest.approx(1e-4 * expected, rel=0.01)


def test_refusals():
    surrogate, mesh = make_surrogate(), body()
    sensitivity = surrogate.sensitivity
    with pytest.raises(ValueError, match="'x'"):
        sensitivity(mesh, wrt="x", flow=FLOW, constants=SPEED)
    with pytest.raises(ValueError, match="'torque'"):
        sensitivity(mesh, "torque", flow=FLOW, constants=SPEED)
    with pytest.raises(ValueError, match="flow"):
        sensitivity(mesh, constants=SPEED)
    with pytest.raises(ValueError, match="'p'"):
        sensitivity(mesh, flow=Flow(1.0, 1.0, pressure="p"), constants=SPEED)
    with pytest.raises(ValueError, match="smoothing"):
        sensitivity(mesh, flow=FLOW, constants=SPEED, smoothing=0.0)
    with pytest.raises(ValueError, match="quantity"):
        sensitivity(mesh, lambda fields, _: fields["pressure"], constants=SPEED)
    plain = Surrogate(
        FLARE(3, 8, 1, num_layers=1, heads=2, num_latents=4),
        Normalizer([0.0], [1.0]),
        Normalizer.from_bounds([-1.5] * 3, [1.5] * 3),
        fields=[Field("pressure")],
    )
    with pytest.raises(ValueError, match="conditions"):
        plain.sensitivity(mesh, wrt="u", flow=FLOW)
    grid = pv.ImageData(
        dimensions=(3, 3, 3), spacing=[0.5] * 3
    ).cast_to_unstructured_grid()
    with pytest.raises(ValueError, match="faces"):
        plain.sensitivity(grid, flow=FLOW)
