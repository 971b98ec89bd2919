"""Signed distances to bodies, against formulas and against another method."""

import numpy as np
import pytest
import pyvista as pv

from torch_geometric_flare.fields import Field
from torch_geometric_flare.mesh_io import (
    distance_features,
    points_inside,
    surface_distance,
)
from torch_geometric_flare.simulation import Notchback, NotchbackShape
from torch_geometric_flare.simulation.surface_distance import TriangleSurface

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("turned", [False, True])
def test_a_cube(turned):
    cube = pv.Cube().triangulate()  # eight corners, three times each
    cube = cube.flip_faces() if turned else cube
    points = RNG.uniform(-1.5, 1.5, (500, 3))
    distance, direction = surface_distance(cube, points)
    beyond = np.abs(points) - 0.5
    outside = np.maximum(beyond, 0)
    expected = np.linalg.norm(outside, axis=1) + np.minimum(beyond.max(1), 0)
    assert (expected < 0).sum() > 10
    np.testing.assert_allclose(distance, expected, atol=1e-12)
    inward = np.eye(3)[beyond.argmax(1)]
    slope = np.where(expected[:, None] > 0, outside / expected[:, None], inward)
    np.testing.assert_allclose(direction, np.sign(points) * slope, atol=1e-9)


def test_a_sphere_on_and_off_the_surface():
    sphere = pv.Icosphere(radius=2.0, nsub=4)
    points = RNG.normal(size=(200, 3))
    radius = np.linalg.norm(points, axis=1)
    distance, direction = surface_distance(sphere, points)
    np.testing.assert_allclose(distance, radius - 2, atol=5e-3)
    # Near the middle all directions are alike.
    cosine = (direction * points).sum(1) / radius
    assert cosine[radius > 1].min() > 0.998
    centers = sphere.cell_centers().points.astype(float)
    distance, direction = surface_distance(sphere, centers)
    assert np.abs(distance).max() < 1e-6
    np.testing.assert_allclose(direction, sphere.face_normals, atol=1e-3)


def test_points_that_are_none():
    distance, direction = surface_distance(pv.Cube(), np.empty((0, 3)))
    assert distance.shape == (0,) and direction.shape == (0, 3)
    for points in (np.ones(3), np.ones((4, 2)), np.full((2, 3), np.nan)):
        for function in (surface_distance, points_inside):
            with pytest.raises(ValueError, match="points"):
                function(pv.Cube(), points)


def test_a_simulated_car():
    shape = NotchbackShape.sample(np.random.default_rng(3))
    notchback = Notchback(100, panels_along=24, panels_around=8)
    flow = notchback.solve(shape)
    surface = notchback.surface_of(flow)
    cells = np.insert(surface["cells"], 0, 4, axis=1)
    car = pv.PolyData(surface["points"], faces=cells.ravel())
    points = RNG.uniform((-1, -1.5, 0), (6, 1.5, 2), (400, 3))
    distance, direction = surface_distance(car, points)
    triangles = car.triangulate()
    corners = triangles.points[triangles.regular_faces]
    other, gradient = TriangleSurface(corners).signed_distance(points)
    assert (other < 0).sum() > 20
    np.testing.assert_allclose(distance, other, atol=1e-9)
    np.testing.assert_allclose(direction, gradient, atol=1e-6)


def test_named_features():
    cube, points = pv.Cube(), np.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.25]])
    wanted = Field("distance_direction", 3), Field("signed_distance"), Field("other")
    found = distance_features(cube, points, wanted, 0.5)
    assert sorted(found) == ["distance_direction", "signed_distance"]
    assert found["signed_distance"].tolist() == [[0.75], [-0.125]]
    assert found["distance_direction"].tolist() == [[1, 0, 0], [0, 0, 1]]
    assert distance_features(cube, points, (Field("signed_distance", 2),)) == {}
    with pytest.raises(ValueError, match="signed_distance"):
        distance_features(cube.extract_cells([0, 1]), points, wanted)
