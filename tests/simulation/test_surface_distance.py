import numpy as np
import pytest

from torch_geometric_flare.simulation.surface_distance import TriangleSurface

CORNERS = np.array(
    [[x, y, z] for x in (-1.0, 1.0) for y in (-2.0, 2.0) for z in (-0.5, 0.5)]
)
QUADS = [
    [0, 1, 3, 2],
    [4, 6, 7, 5],
    [0, 4, 5, 1],
    [2, 3, 7, 6],
    [0, 2, 6, 4],
    [1, 5, 7, 3],
]
HALF = np.array([1.0, 2.0, 0.5])


def box():
    quads = CORNERS[QUADS]
    return TriangleSurface(np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))


def box_distance(points):
    beyond = np.abs(points) - HALF
    outside = np.linalg.norm(np.maximum(beyond, 0), axis=1)
    return outside + np.minimum(beyond.max(axis=1), 0)


def test_distance_to_a_box():
    points = np.random.default_rng(0).uniform(-3, 3, (3000, 3))
    distance, direction = box().signed_distance(points)
    np.testing.assert_allclose(distance, box_distance(points), atol=1e-12)
    assert (distance < 0).any() and (distance > 0).any()
    np.testing.assert_allclose(np.linalg.norm(direction, axis=1), 1, atol=1e-12)
    # A step down the gradient ends on the surface.
    on_it = points - distance[:, None] * direction
    np.testing.assert_allclose(box_distance(on_it), 0, atol=1e-12)


def test_points_on_the_surface():
    places = np.array([[1.0, 0.3, 0.2], [-0.3, 2.0, 0.1], [0.1, 0.2, -0.5]])
    distance, direction = box().signed_distance(places)
    np.testing.assert_allclose(distance, 0, atol=1e-12)
    np.testing.assert_allclose(direction, [[1, 0, 0], [0, 1, 0], [0, 0, -1]])


def test_sides_of_a_thin_wedge():
    """Off a sharp edge, a triangle that is seen from behind may be as close."""
    tip, ends = [0.0, 0.0, 0.0], [[3.0, y, z] for y in (-1, 1) for z in (-0.1, 0.1)]
    edge = np.array([[0.0, -1.0, 0.0], [0.0, 1.0, 0.0]])
    a, b, c, d = map(np.array, ends)  # (-, -), (-, +), (+, -), (+, +)
    left, right = edge
    triangles = [
        [left, right, d],
        [left, d, b],  # above
        [left, a, c],
        [left, c, right],  # below
        [left, b, a],
        [right, c, d],
        [a, b, d],
        [a, d, c],
    ]
    surface = TriangleSurface(np.array(triangles)[:, ::-1])
    angle = np.linspace(0.05 * np.pi, 1.95 * np.pi, 200)
    points = tip + 0.2 * np.stack([np.cos(angle), 0 * angle, np.sin(angle)], axis=1)
    distance, _ = surface.signed_distance(points)
    assert (distance > 0).all()
    inside = np.array([[x, 0.0, 0.0] for x in (0.5, 1.0, 2.0, 2.99)])
    assert (surface.signed_distance(inside)[0] < 0).all()
    assert surface.signed_distance(np.array([[-1.0, 0, 0]]))[0] == pytest.approx(1)


def test_triangles_without_area_do_not_count():
    surface = box()
    flat = np.array([[[9.0, 9, 9], [9, 9, 9], [8, 9, 9]]])
    more = TriangleSurface(np.concatenate([surface._corners, flat]))
    points = np.array([[9.0, 9.0, 9.0], [0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(
        more.signed_distance(points)[0], surface.signed_distance(points)[0]
    )
