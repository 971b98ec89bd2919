import dataclasses

import numpy as np
import pytest

from torch_geometric_flare.simulation import (
    SHAPE_RANGES,
    Notchback,
    NotchbackShape,
    NotchbackVolume,
)

SIZES = {"num_points": 500, "panels_along": 32, "panels_around": 12}
CARS = NotchbackVolume(**SIZES, volume_points=1000)
POTENTIAL = dataclasses.replace(CARS, base_pressure=False)
MIDDLE = NotchbackShape(**{k: 0.5 * sum(r) for k, r in SHAPE_RANGES.items()})


@pytest.fixture(scope="module")
def flow():
    return CARS.solve(MIDDLE)


def test_the_surface_is_that_of_the_notchback():
    sample = CARS.sample(np.random.default_rng(4))
    again = CARS.sample(np.random.default_rng(4))
    surface = Notchback(**SIZES).sample(np.random.default_rng(4))
    query = {name for name in sample if name.startswith("query_")}
    assert set(sample) == set(surface) | query
    shapes = {name: sample[name].shape for name in query}
    assert shapes == {
        "query_pos": (1000, 3),
        "query_velocity": (1000, 3),
        "query_pressure": (1000, 1),
        "query_signed_distance": (1000, 1),
        "query_distance_direction": (1000, 3),
    }
    for name, values in sample.items():
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(values, again[name])
    for name, values in surface.items():
        np.testing.assert_array_equal(values, sample[name])


def test_the_law_of_the_points(flow):
    cars = dataclasses.replace(CARS, volume_points=4000)
    points = cars.volume(flow, np.random.default_rng(0))
    distance = cars.fields_at(flow, points)["signed_distance"][:, 0]
    lower, upper = np.array(cars.query_coordinate_bounds)
    assert ((points >= lower) & (points <= upper)).all() and (distance >= 0.02).all()

    def share(low, high):
        return ((points >= low) & (points <= high)).all(axis=1).mean()

    # Far from the body only the quarter that is drawn evenly in the whole box.
    ahead = share(lower, (-2.0, 3.0, 3.0))
    assert ahead == pytest.approx(0.25 / 12.0, rel=0.25)
    tail = MIDDLE.length
    behind = share((tail + 1.5, -1.2, 0.0), (tail + 2.5, 1.2, 1.6))
    # A metre of the three of the wake box, of which the body takes 6 %.
    wake, evenly = 0.25 / 3 * 1.06, 0.25 * 2.4 * 1.6 / (12 * 6 * 3)
    assert behind == pytest.approx(wake + evenly, rel=0.12)
    assert 0.35 < (distance < 0.3).mean() < 0.5
    # Any subset of the points follows the law too.
    first = distance[:1000] < 0.3
    assert first.mean() == pytest.approx((distance < 0.3).mean(), abs=0.05)


def test_the_air_meets_the_surface(flow):
    """Pressure and speed just off the panels are those on them, wake included."""
    panels = flow.potential.panels
    off = panels.centers + 1e-4 * panels.normals
    fields = CARS.fields_at(flow, off)
    # Panels are flat, and some of them lie a little inside the surface of triangles.
    outside = fields["signed_distance"][:, 0] > 0
    assert outside.mean() > 0.7
    found = fields["pressure"][:, 0] / (0.5 * CARS.speed**2)
    difference = np.abs(found - flow.pressure_coefficient.reshape(-1))[outside]
    assert difference.max() < 0.005
    through = (fields["velocity"] * panels.normals).sum(axis=1) / CARS.speed
    assert np.abs(through[outside]).max() < 0.002


def test_nothing_crosses_the_road_and_the_plane_of_symmetry(flow):
    rng = np.random.default_rng(0)
    points = CARS.volume(flow, rng)
    for axis in (1, 2):
        on_it = points.copy()
        on_it[:, axis] = 0.0
        fields = CARS.fields_at(flow, on_it)
        outside = fields["signed_distance"][:, 0] > 0
        assert np.abs(fields["velocity"][outside, axis]).max() < 1e-10
    mirrored = CARS.fields_at(flow, points * [1, -1, 1])
    for name, values in CARS.fields_at(flow, points).items():
        factors = [1, -1, 1] if values.shape[1] == 3 else 1
        np.testing.assert_allclose(mirrored[name], values * factors, atol=1e-8)


def test_without_a_wake_it_is_a_potential_flow():
    """Neither sources nor curl, by central differences, and Bernoulli's pressure."""
    flow = POTENTIAL.solve(MIDDLE)
    points = POTENTIAL.volume(flow, np.random.default_rng(1))
    fields = POTENTIAL.fields_at(flow, points)
    points = points[fields["signed_distance"][:, 0] > 0.2][:200]
    step, gradient = 1e-4, np.empty((len(points), 3, 3))
    for axis, unit in enumerate(np.eye(3)):
        ahead, back = (
            POTENTIAL.fields_at(flow, points + sign * step * unit)["velocity"]
            for sign in (1, -1)
        )
        gradient[:, :, axis] = (ahead - back) / (2 * step)
    size = np.abs(gradient).max()
    assert size > 1
    # Where panels become point sources the flow jumps a little.
    sources = np.abs(np.trace(gradient, axis1=1, axis2=2))
    curl = np.abs(gradient - gradient.transpose(0, 2, 1)).max(axis=(1, 2))
    assert np.quantile(sources, 0.9) < 1e-4 * size
    assert np.quantile(curl, 0.9) < 1e-4 * size
    fields = POTENTIAL.fields_at(flow, points)
    squares = (fields["velocity"] ** 2).sum(axis=1)
    np.testing.assert_allclose(
        fields["pressure"][:, 0], 0.5 * (POTENTIAL.speed**2 - squares), atol=1e-9
    )


def test_the_wake_decays_downstream(flow):
    tail = MIDDLE.length
    height = 0.5 + 0.12  # of the middle of the rear face
    points = np.array([[tail + s, 0.0, height] for s in (0.05, 1.55, 3.05)])
    with_wake, without = (cars.fields_at(flow, points) for cars in (CARS, POTENTIAL))
    potential = POTENTIAL.fields_at(POTENTIAL.solve(MIDDLE), points)
    np.testing.assert_array_equal(with_wake["velocity"], without["velocity"])
    weight = 1 - with_wake["velocity"][:, 0] / potential["velocity"][:, 0]
    assert 0.95 < weight[0] <= 1
    np.testing.assert_allclose(weight[1:] / weight[:-1], np.exp(-1), rtol=1e-6)
    coefficients = (
        fields["pressure"][:, 0] / (0.5 * CARS.speed**2)
        for fields in (with_wake, potential)
    )
    found, plain = coefficients
    np.testing.assert_allclose(found, (1 - weight) * plain - 0.18 * weight, atol=1e-12)
    aside = np.array([[tail + 0.5, 1.2, height], [tail + 0.5, 0.0, 1.5], [-1, 0, 0.6]])
    for name, values in CARS.fields_at(flow, aside).items():
        expected = POTENTIAL.fields_at(POTENTIAL.solve(MIDDLE), aside)[name]
        np.testing.assert_array_equal(values, expected)


def test_points_in_the_body(flow):
    inside = np.array([[2.0, 0.3, 0.6], [2.0, 0.0, 1.3]])
    fields = CARS.fields_at(flow, inside)
    distance, direction = fields["signed_distance"], fields["distance_direction"]
    assert (distance < 0).all()
    out = inside + (0.02 - distance) * direction
    outside = CARS.fields_at(flow, out)
    np.testing.assert_allclose(outside["signed_distance"], 0.02, atol=1e-9)
    for name in ("velocity", "pressure"):
        np.testing.assert_allclose(fields[name], outside[name], rtol=1e-9)


def test_bad_arguments(flow):
    for number in (0, 10.0):
        with pytest.raises(ValueError, match="`volume_points` must be"):
            NotchbackVolume(volume_points=number)
    with pytest.raises(ValueError, match="`points` must be"):
        CARS.fields_at(flow, np.zeros(3))
