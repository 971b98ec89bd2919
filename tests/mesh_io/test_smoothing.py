import numpy as np
import pytest
import pyvista as pv

from torch_geometric_flare.mesh_io import sobolev_smooth


@pytest.fixture(scope="module")
def ball():
    ball = pv.Icosphere(radius=2.0, nsub=4)
    ball.clear_data()
    ball.points = ball.points.astype(np.float64)
    return ball


def mass(mesh):
    corners = mesh.points[mesh.regular_faces]
    edges = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = np.linalg.norm(np.cross(*edges), axis=1) / 2
    return np.bincount(mesh.regular_faces.ravel(), np.repeat(area / 3, 3))


@pytest.mark.parametrize("length", [0.0, 0.5, 3.0])
def test_harmonics_of_a_ball(ball, length):
    """The Laplacian of a harmonic of degree k is k (k + 1) / R² times it."""
    x, _, z = ball.points.T / 2.0
    weights = mass(ball)
    for degree, harmonic in ((0, np.ones_like(x)), (1, x), (2, 3 * z**2 - 1)):
        smooth = sobolev_smooth(ball, weights * harmonic, length)
        expected = harmonic / (1 + length**2 * degree * (degree + 1) / 4)
        np.testing.assert_allclose(smooth, expected, atol=0.01 * np.abs(expected).max())
        # A step against it is a descent.
        assert (weights * harmonic) @ smooth > 0


def test_roughness_goes(ball):
    rng = np.random.default_rng(0)
    rough = mass(ball) * (1 + rng.standard_normal(ball.n_points))
    smooth = sobolev_smooth(ball, rough, 1.0)
    assert smooth.std() < 0.1 * (rough / mass(ball)).std()
    assert smooth @ mass(ball) == pytest.approx(rough.sum(), rel=1e-6)


def test_points_that_coincide_are_one(ball):
    values = mass(ball) * ball.points[:, 0]
    corners = ball.regular_faces.ravel()
    count = np.bincount(corners)
    apart = pv.PolyData.from_regular_faces(
        ball.points[corners], np.arange(len(corners)).reshape(-1, 3)
    )
    shared = (values / count)[corners]
    smooth = sobolev_smooth(ball, values, 0.7)
    np.testing.assert_allclose(
        sobolev_smooth(apart, shared, 0.7), smooth[corners], atol=1e-7
    )


def test_refusals(ball):
    with pytest.raises(ValueError, match="-1"):
        sobolev_smooth(ball, np.ones(ball.n_points), -1.0)
    with pytest.raises(ValueError, match="values"):
        sobolev_smooth(ball, np.ones(5), 1.0)
