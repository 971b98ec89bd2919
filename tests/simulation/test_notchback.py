import dataclasses
import itertools
import pickle

import numpy as np
import pytest

from torch_geometric_flare.fields import Field
from torch_geometric_flare.simulation import (
    SHAPE_RANGES,
    Notchback,
    NotchbackShape,
    SourcePanels,
)
from torch_geometric_flare.simulation.surface_points import lattice_quads

SMALL = Notchback(num_points=2000, panels_along=32, panels_around=12)
MIDDLE = NotchbackShape(**{k: 0.5 * sum(r) for k, r in SHAPE_RANGES.items()})


def drag(flow):
    force = -2.0 * (flow.pressure_coefficient * flow.normals[..., 0] * flow.areas).sum()
    return force / Notchback.reference_area


def test_fields():
    sample = SMALL.sample(np.random.default_rng(0))
    shapes = {field: value.shape for field, value in sample.items()}
    n = SMALL.num_points
    assert shapes == {
        "pos": (n, 3),
        "pressure": (n, 1),
        "normal": (n, 3),
        "area": (n,),
    }
    assert SMALL.fields == (Field("pressure", 1, "m²/s²"),)
    assert SMALL.features == ()
    assert all(np.isfinite(value).all() for value in sample.values())
    lower, upper = np.array(Notchback.coordinate_bounds)
    assert ((sample["pos"] >= lower) & (sample["pos"] <= upper)).all()
    np.testing.assert_allclose(np.linalg.norm(sample["normal"], axis=1), 1, atol=1e-6)


def test_the_generator_decides_everything():
    first, again, other = (
        SMALL.sample(np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    for field in first:
        np.testing.assert_array_equal(first[field], again[field])
    assert not np.allclose(first["pos"].max(axis=0), other["pos"].max(axis=0))
    copy = pickle.loads(pickle.dumps(SMALL))
    assert copy == SMALL
    np.testing.assert_array_equal(
        copy.sample(np.random.default_rng(5))["pressure"], first["pressure"]
    )


def test_bodies_stay_in_the_box_and_above_the_road():
    lower, upper = np.array(Notchback.coordinate_bounds)
    for seed in range(30):
        shape = NotchbackShape.sample(np.random.default_rng(seed))
        lattice = shape.lattice(64, 24)
        low, high = lattice.min(axis=(0, 1)), lattice.max(axis=(0, 1))
        assert low[0] == 0.0
        assert high[0] == shape.length <= upper[0]
        assert low[1] == 0.0
        assert 0.45 * shape.width < high[1] <= 0.5 * shape.width <= upper[1]
        assert lower[2] < shape.clearance <= low[2] < shape.clearance + 0.05
        assert high[2] == pytest.approx(shape.height, abs=0.02)
        assert high[2] <= upper[2]


def test_the_extremes_of_every_length_stay_in_the_box():
    lower, upper = np.array(Notchback.coordinate_bounds)
    names = ("length", "width", "height", "clearance")
    for choice in itertools.product((0, 1), repeat=4):
        ends = {k: SHAPE_RANGES[k][i] for k, i in zip(names, choice, strict=True)}
        lattice = dataclasses.replace(MIDDLE, **ends).lattice(64, 24)
        points = lattice.reshape(-1, 3)
        assert (points >= lower).all()
        assert (points <= upper).all()


def test_the_roof_never_comes_to_a_point():
    # The windscreen's top stays ahead of the rear window's for all extremes.
    names = (
        "length",
        "height",
        "bonnet_length",
        "cowl_height",
        "windscreen_angle",
        "backlight_angle",
        "decklid_length",
        "decklid_height",
    )
    for choice in itertools.product((0, 1), repeat=len(names)):
        ends = {k: SHAPE_RANGES[k][i] for k, i in zip(names, choice, strict=True)}
        shape = dataclasses.replace(MIDDLE, **ends)
        screen = shape.height - shape.cowl_height
        window = shape.height - shape.decklid_height
        front = shape.bonnet_length + screen / np.tan(
            np.radians(shape.windscreen_angle)
        )
        rear = shape.length - shape.decklid_length
        rear -= window / np.tan(np.radians(shape.backlight_angle))
        assert rear - front >= 0.3


def test_the_angles_are_the_roofline_s():
    lattice = MIDDLE.lattice(400, 24)
    x, z = lattice[:, -1, 0], lattice[:, -1, 2]
    middle = (x > 0.8) & (x < MIDDLE.length - 0.6)
    slope = np.degrees(np.arctan(np.gradient(z, x)[middle]))
    assert slope.max() == pytest.approx(MIDDLE.windscreen_angle, abs=3.0)
    assert -slope.min() == pytest.approx(MIDDLE.backlight_angle, abs=3.0)


def test_the_surface_is_closed_and_faces_outwards():
    for seed in range(5):
        shape = NotchbackShape.sample(np.random.default_rng(seed))
        panels = SourcePanels(lattice_quads(shape.lattice(32, 12)))
        weighted = panels.normals * panels.areas[:, None]
        # The other half cancels the component across.
        np.testing.assert_allclose(weighted.sum(axis=0)[[0, 2]], 0.0, atol=1e-12)
        # Volume by the divergence theorem, along each axis.
        volume = 2.0 * (panels.centers * weighted).sum(axis=0)
        np.testing.assert_allclose(volume, volume.mean(), rtol=0.02)
        box = shape.length * shape.width * shape.height
        assert 0.5 < volume.mean() / box < 0.8


def test_points_cover_both_halves_evenly():
    flow = SMALL.solve(MIDDLE)
    sample = SMALL.surface_points(flow, np.random.default_rng(0))
    total = 2.0 * flow.areas.sum()
    assert sample["area"].sum(dtype=np.float64) == pytest.approx(total, rel=1e-6)
    assert (sample["area"] == sample["area"][0]).all()
    assert np.abs((sample["pos"][:, 1] > 0).mean() - 0.5) < 1e-3
    vector = (sample["normal"] * sample["area"][:, None]).sum(axis=0, dtype=np.float64)
    assert np.abs(vector).max() < 0.01 * total
    # Outward: the flux of the position through the surface is thrice the volume.
    assert (sample["pos"] * sample["normal"] * sample["area"][:, None]).sum() > 3.0
    side = np.sign(sample["pos"][:, 1])
    flank = np.abs(sample["normal"][:, 1]) > 0.7
    assert (np.sign(sample["normal"][flank, 1]) == side[flank]).all()


def test_pressures_are_those_of_a_car():
    model = Notchback(num_points=20_000, panels_along=48, panels_around=20)
    dynamic = 0.5 * model.speed**2
    for seed in range(3):
        rng = np.random.default_rng(seed)
        flow = model.solve(NotchbackShape.sample(rng))
        pressure = flow.pressure_coefficient
        assert 0.97 < pressure.max() <= 1.0
        assert -3.0 < pressure.min() < -0.5
        # The flow stops at the middle of the front and is fast over the roof.
        at = np.unravel_index(pressure.argmax(), pressure.shape)
        assert flow.lattice[at][0] < 0.05
        roof = pressure[:, -1][np.argmax(flow.lattice[:, -1, 2]) - 4]
        assert roof < -0.3
        sample = model.surface_points(flow, rng)
        assert sample["pressure"].max() <= dynamic
        assert sample["pressure"].max() > 0.95 * dynamic
        weighted = sample["pressure"] * sample["normal"] * sample["area"][:, None]
        force = -weighted.sum(axis=0, dtype=np.float64)
        coefficient = force / (dynamic * model.reference_area)
        assert coefficient[0] == pytest.approx(drag(flow), abs=0.01)


def test_pressures_have_no_spikes():
    # A panel differs little from its four neighbours, even at the sharp rear edges.
    cp = Notchback(base_pressure=False).solve(MIDDLE).pressure_coefficient
    mean = 0.25 * (cp[:-2, 1:-1] + cp[2:, 1:-1] + cp[1:-1, :-2] + cp[1:-1, 2:])
    assert np.abs(cp[1:-1, 1:-1] - mean).max() < 0.4
    forward = np.abs(cp[1:45, 1:-1] - mean[:44])
    assert forward.max() < 0.1


def test_the_road_sucks_the_floor():
    # Without the road the floor would be at -0.09.
    floor = []
    for clearance in (0.14, 0.20):
        flow = SMALL.solve(dataclasses.replace(MIDDLE, clearance=clearance))
        x = flow.lattice[:-1, 0, 0]
        part = (x > 1.5) & (x < 3.0)
        floor.append(flow.pressure_coefficient[part, :3].mean())
    assert floor[0] < floor[1] - 0.02
    assert floor[1] < -0.2


def test_drag_comes_from_the_base_pressure_alone():
    # D'Alembert: without the option, what remains is the discretisation error.
    counts = {"panels_along": 48, "panels_around": 20}
    for seed in range(3):
        shape = NotchbackShape.sample(np.random.default_rng(seed))
        assert abs(drag(Notchback(base_pressure=False, **counts).solve(shape))) < 0.03
        assert drag(Notchback(**counts).solve(shape)) == pytest.approx(0.2, abs=0.04)


def test_drag_vanishes_with_refinement():
    coarse, fine = (
        abs(drag(Notchback(100, n, m, base_pressure=False).solve(MIDDLE)))
        for n, m in ((24, 10), (48, 20))
    )
    assert fine < 0.6 * coarse


def test_base_pressure_level():
    flow = SMALL.solve(MIDDLE)
    np.testing.assert_allclose(flow.pressure_coefficient[-1], -0.18, atol=1e-12)
    untouched = dataclasses.replace(SMALL, base_pressure=False).solve(MIDDLE)
    front = flow.lattice[:-1, 0, 0] < 0.8 * MIDDLE.length
    np.testing.assert_array_equal(
        flow.pressure_coefficient[front], untouched.pressure_coefficient[front]
    )


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("num_points", 0),
        ("num_points", 10.0),
        ("panels_along", 7),
        ("panels_around", 3),
        ("speed", 0.0),
        ("speed", float("inf")),
    ],
)
def test_bad_arguments(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` must be"):
        Notchback(**{argument: value})


def test_surface_is_that_of_the_sample():
    """A closed body with the area, the box and the forces of the points drawn on it."""
    surface = SMALL.surface(np.random.default_rng(3))
    sample = SMALL.sample(np.random.default_rng(3))
    points, cells = surface["points"], surface["cells"]
    assert surface["area"].sum() == pytest.approx(sample["area"].sum())
    corners = points[cells]
    vectors = 0.5 * np.cross(
        corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    )
    np.testing.assert_allclose(vectors.sum(axis=0), 0.0, atol=1e-9)  # closed
    along = np.einsum("pi,pi->p", vectors, surface["normal"])
    assert (along > 0).all()  # outward
    np.testing.assert_allclose(along, surface["area"], rtol=0.1)
    volume = np.einsum("pi,pi->", vectors, corners.mean(axis=1)) / 3
    assert 4.0 < volume < 10.0
    low, high = points.min(axis=0), points.max(axis=0)
    assert (sample["pos"] >= low - 1e-6).all() and (sample["pos"] <= high + 1e-6).all()
    edges = np.sort(
        np.concatenate([cells[:, [i, (i + 1) % 4]] for i in range(4)]), axis=1
    )
    edges = edges[edges[:, 0] != edges[:, 1]]  # a triangle repeats a vertex
    assert set(np.unique(edges, axis=0, return_counts=True)[1]) == {2}


def test_a_lattice_of_any_shape_can_be_solved():
    lattice = MIDDLE.lattice(SMALL.panels_along, SMALL.panels_around)
    flow = SMALL.solve_lattice(lattice)
    np.testing.assert_array_equal(
        flow.pressure_coefficient, SMALL.solve(MIDDLE).pressure_coefficient
    )
    wider = SMALL.solve_lattice(lattice * (1.0, 1.1, 1.0))
    assert drag(wider) != drag(flow)
    surface = SMALL.surface_of(flow)
    assert len(surface["cells"]) == 2 * flow.areas.size
    with pytest.raises(ValueError, match="lattice"):
        SMALL.solve_lattice(lattice[1:])
