import numpy as np
import pytest

from torch_geometric_flare.simulation import SourcePanels

QUAD = np.array([[0.0, 0.0, 0.0], [1.2, 0.1, 0.0], [1.0, 0.9, 0.0], [-0.1, 0.7, 0.0]])
TRIANGLE = QUAD[[0, 1, 2, 2]]


def turned(quad):
    # A rotation about (1, 2, 2), then a shift: no axis of the panel is one of space.
    axis = np.array([1.0, 2.0, 2.0]) / 3.0
    cross = np.cross(np.eye(3), axis)
    rotation = np.eye(3) + np.sin(0.8) * cross + (1 - np.cos(0.8)) * cross @ cross
    return quad @ rotation.T + [0.3, -0.2, 0.5]


def quadrature(quad, point, order=200):
    node, weight = np.polynomial.legendre.leggauss(order)
    u, v = np.meshgrid((node + 1) / 2, (node + 1) / 2, indexing="ij")
    u, v = u[..., None], v[..., None]
    a, b, c, d = quad
    position = (1 - u) * ((1 - v) * a + v * d) + u * ((1 - v) * b + v * c)
    along, across = (1 - v) * (b - a) + v * (c - d), (1 - u) * (d - a) + u * (c - b)
    area = np.linalg.norm(np.cross(along, across), axis=-1) * np.outer(weight, weight)
    away = point - position
    kernel = away / np.linalg.norm(away, axis=-1, keepdims=True) ** 3
    return (kernel * area[..., None] / 4).sum(axis=(0, 1)) / (4 * np.pi)


def sphere(along, around, center=(0.0, 0.0, 0.0), share=1.0):
    theta = np.linspace(0, np.pi, along + 1)[:, None]
    phi = np.linspace(0, 2 * np.pi * share, around + 1)
    lattice = np.stack(
        np.broadcast_arrays(
            -np.cos(theta), np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi)
        ),
        axis=-1,
    )
    corners = lattice[:-1, :-1], lattice[1:, :-1], lattice[1:, 1:], lattice[:-1, 1:]
    quads = np.stack(corners, axis=2).reshape(-1, 4, 3)
    return quads[:, ::-1] + np.array(center)


def sphere_error(along):
    panels = SourcePanels(sphere(along, 2 * along))
    pressure = panels.solve().pressure_coefficient
    cosine = panels.centers[:, 0] / np.linalg.norm(panels.centers, axis=1)
    exact = 1 - 9 / 4 * (1 - cosine**2)
    return np.linalg.norm(pressure - exact) / np.linalg.norm(exact)


@pytest.mark.parametrize("quad", [QUAD, TRIANGLE], ids=["quadrilateral", "triangle"])
@pytest.mark.parametrize(
    "offset",
    [
        (0.0, 0.0, 0.4),
        (0.0, 0.0, -0.4),
        (0.9, 0.3, 0.1),
        (-0.7, 0.5, -0.2),
        (0.2, -1.1, 0.0),
        (0.3, 0.2, 1.5),
    ],
)
def test_one_panel_against_quadrature(quad, offset):
    quad = turned(quad)
    panel = SourcePanels(quad[None], near_field=100.0)
    point = quad.mean(axis=0) + offset
    found = panel.induced_velocity(point[None], np.ones(1))[0]
    exact = quadrature(quad, point)
    assert np.linalg.norm(exact) > 0.01
    np.testing.assert_allclose(found, exact, atol=2e-6)


def test_far_panel_is_a_point_source_at_the_centroid():
    quad = turned(QUAD)
    points = quad.mean(axis=0) + np.array([[6.0, 2.0, 1.0], [-1.0, 4.0, 5.0]])
    exact = np.stack([quadrature(quad, point, 20) for point in points])
    found = SourcePanels(quad[None]).induced_velocity(points, np.ones(1))
    assert not np.array_equal(found, exact)
    np.testing.assert_allclose(found, exact, rtol=6e-3, atol=1e-4)


def test_a_panel_blows_half_its_strength_off_itself():
    for quad in (
        QUAD,
        TRIANGLE,
        np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]),
    ):
        panel = SourcePanels(turned(quad.astype(float))[None])
        velocity = panel.induced_velocity(panel.centers, np.full(1, 3.0))[0]
        assert velocity @ panel.normals[0] == pytest.approx(1.5, abs=1e-7)


def test_areas_normals_and_centers():
    square = [[0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]]
    trapezium = [[0, 0, 0], [0, 0, 1], [0, 1, 2], [0, 1, 0]]
    triangle = [[0, 0, 1], [3, 0, 1], [0, 3, 1], [0, 3, 1]]
    panels = SourcePanels([square, trapezium, triangle])
    np.testing.assert_allclose(panels.areas, [4.0, 1.5, 4.5])
    np.testing.assert_allclose(
        panels.normals, [[0, 0, 1], [-1, 0, 0], [0, 0, 1]], atol=1e-15
    )
    np.testing.assert_allclose(
        panels.centers, [[1, 1, 0], [0, 5 / 9, 7 / 9], [1, 1, 1]], atol=1e-15
    )


def test_sphere_converges():
    coarse, fine = sphere_error(16), sphere_error(24)  # 512 and 1152 panels
    assert coarse < 0.0171
    assert fine < 0.0120
    assert fine < 0.75 * coarse


def test_no_flow_through_panels():
    panels = SourcePanels(sphere(8, 16))
    flow = panels.solve((0.0, 2.0, 1.0))
    across = (flow.velocity * panels.normals).sum(axis=1)
    assert np.abs(across).max() < 1e-12
    # The pressure coefficient does not depend on the speed.
    again = panels.solve((0.0, 4.0, 2.0))
    np.testing.assert_allclose(again.pressure_coefficient, flow.pressure_coefficient)


def test_half_a_sphere_and_its_mirror_image_make_a_sphere():
    half = SourcePanels(sphere(8, 6, share=0.5), mirrors=[(2, 0.0)])
    whole = SourcePanels(sphere(8, 12))
    upper = whole.centers[:, 2] > 0
    order_half = np.lexsort(half.centers.round(9).T)
    order_whole = np.flatnonzero(upper)[np.lexsort(whole.centers[upper].round(9).T)]
    np.testing.assert_allclose(
        half.solve().velocity[order_half],
        whole.solve().velocity[order_whole],
        atol=1e-12,
    )


def test_mirrors_against_explicit_images():
    # A sphere in the quarter space y > -1.2, z > 0: four explicit spheres.
    body = sphere(6, 10, center=(0.1, 0.3, 1.4))
    in_y = (body * [1, -1, 1] + [0, -2.4, 0])[:, ::-1]
    in_z = (body * [1, 1, -1])[:, ::-1]
    in_both = body * [1, -1, -1] + [0, -2.4, 0]
    twin = SourcePanels(np.concatenate([body, in_y, in_z, in_both])).solve()
    panels = SourcePanels(body, mirrors=[(1, -1.2), (2, 0.0)])
    flow = panels.solve()
    np.testing.assert_allclose(flow.velocity, twin.velocity[: len(body)], atol=1e-12)
    np.testing.assert_allclose(flow.strengths, twin.strengths[: len(body)], atol=1e-12)

    points = np.array([[0.3, -1.2, 0.9], [-2.0, -1.2, 0.0], [0.0, 0.4, 0.0]])
    velocity = panels.induced_velocity(points, flow.strengths)
    assert np.abs(velocity[:2, 1]).max() < 1e-14
    assert np.abs(velocity[1:, 2]).max() < 1e-14
    assert np.abs(velocity).max() > 0.01


@pytest.mark.parametrize(
    ("vertices", "mirrors", "message"),
    [
        (np.zeros((4, 3)), (), r"\[P, 4, 3\]"),
        (np.full((1, 4, 3), np.nan), (), "vertices.*finite"),
        (np.zeros((1, 4, 3)), (), "panel 0 of `vertices` has no area"),
        (QUAD[None], [(3, 0.0)], "axes of `mirrors`"),
        (QUAD[None], [(1, 0.0), (1, 2.0)], "axes of `mirrors`"),
    ],
)
def test_bad_panels(vertices, mirrors, message):
    with pytest.raises(ValueError, match=message):
        SourcePanels(vertices, mirrors)


def test_bad_freestream():
    panels = SourcePanels(QUAD[None] + [0, 0, 1], mirrors=[(2, 0.0)])
    with pytest.raises(ValueError, match="crosses a mirror"):
        panels.solve((1.0, 0.0, 0.1))
    with pytest.raises(ValueError, match="not all 0"):
        panels.solve((0.0, 0.0, 0.0))


def off_the_sphere(points):
    """Velocity and pressure coefficient of the flow past the unit sphere."""
    radius = np.linalg.norm(points, axis=1)[:, None]
    velocity = np.array([1.0, 0.0, 0.0]) * (1 + 1 / (2 * radius**3))
    velocity = velocity - 1.5 * points[:, :1] / radius**5 * points
    return velocity, 1 - (velocity**2).sum(axis=1)


@pytest.mark.parametrize(
    ("radius", "of_velocity", "of_pressure"),
    [(1.05, 0.015, 0.034), (1.25, 0.01, 0.028), (2.0, 0.003, 0.028), (5.0, 2e-4, 0.03)],
)
def test_flow_off_a_sphere(radius, of_velocity, of_pressure):
    points = np.random.default_rng(0).normal(size=(500, 3))
    points *= radius / np.linalg.norm(points, axis=1)[:, None]
    exact = off_the_sphere(points)
    errors = []
    for along in (12, 24):
        found = SourcePanels(sphere(along, 2 * along)).solve().at(points)
        errors.append(
            [
                np.linalg.norm(f - e) / np.linalg.norm(e)
                for f, e in zip(found, exact, strict=True)
            ]
        )
    coarse, fine = np.array(errors)
    assert (fine < [of_velocity, of_pressure]).all()
    assert (fine < 0.8 * coarse).all()


def test_flow_in_chunks(monkeypatch):
    panels = SourcePanels(sphere(6, 8) + [0, 0, 1.3], mirrors=[(2, 0.0)])
    flow = panels.solve((2.0, 1.0, 0.0))
    points = np.random.default_rng(0).uniform(2, 4, (50, 3))
    together = flow.at(points)
    monkeypatch.setattr(
        "torch_geometric_flare.simulation.source_panels._PAIRS_AT_A_TIME", 7 * 48
    )
    for found, expected in zip(flow.at(points), together, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)
    velocity, pressure = flow.at(panels.centers)
    np.testing.assert_allclose(velocity, flow.velocity, atol=1e-12)
    np.testing.assert_allclose(pressure, flow.pressure_coefficient, atol=1e-12)
    for bad in (np.zeros(3), np.full((1, 3), np.nan)):
        with pytest.raises(ValueError, match="`points` must be"):
            flow.at(bad)
