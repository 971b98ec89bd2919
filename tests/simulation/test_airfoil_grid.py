import numpy as np
import pytest

from torch_geometric_flare.simulation import AirfoilShape
from torch_geometric_flare.simulation.airfoil_grid import FAR_FIELD


def areas(nodes):
    diagonals = nodes[1:, 1:] - nodes[:-1, :-1], nodes[:-1, 1:] - nodes[1:, :-1]
    (a, b), (c, d) = (np.moveaxis(diagonal, 2, 0) for diagonal in diagonals)
    return 0.5 * (a * d - b * c)


def test_the_undeformed_airfoil_is_a_naca_0012():
    surface = AirfoilShape().surface()
    assert surface.shape == (121, 2)
    np.testing.assert_array_equal(surface[[0, -1], 0], 1.0)
    np.testing.assert_allclose(surface[[0, 60, -1], 1], 0.0, atol=1e-15)
    np.testing.assert_allclose(surface, surface[::-1] * (1, -1), atol=1e-15)
    x, y = surface[60:].T
    assert 2 * y.max() == pytest.approx(0.12, abs=1e-4)
    assert x[y.argmax()] == pytest.approx(0.3, abs=0.02)
    # Abbott and von Doenhoff, ordinates at 5, 30 and 50 % of the chord.
    np.testing.assert_allclose(
        np.interp([0.05, 0.3, 0.5], x, y), [0.03555, 0.06002, 0.05294], atol=2e-4
    )


def test_the_map_moves_points_as_its_nodes():
    up = AirfoilShape(((0.03,) * 4, (0.03,) * 4)).surface()
    plain = AirfoilShape().surface()
    np.testing.assert_allclose(up, plain + (0.0, 0.03), atol=1e-15)
    # Rows apart: thicker by the same factor everywhere.
    thick = AirfoilShape(((-0.05,) * 4, (0.05,) * 4)).surface()
    np.testing.assert_allclose(thick, plain * (1.0, 1.5), atol=1e-15)
    # A single node bends; its cubic is one at x = 0.25 and zero at x = 0.75.
    bent = AirfoilShape(((0.0, 0.04, 0.0, 0.0), (0.0, 0.04, 0.0, 0.0))).surface()
    shift = (bent - plain)[60:, 1]
    x = plain[60:, 0]
    assert np.interp(0.25, x, shift) == pytest.approx(0.04, abs=1e-4)
    assert np.interp(0.75, x, shift) == pytest.approx(0.0, abs=2e-4)


def test_grid():
    for seed in range(20):
        shape = AirfoilShape.sample(np.random.default_rng(seed), 0.06)
        nodes = shape.c_grid()
        assert nodes.shape == (221, 51, 2)
        np.testing.assert_array_equal(nodes[50:171, 0], shape.surface())
        np.testing.assert_allclose(nodes[:51, 0], nodes[:169:-1, 0], atol=1e-14)
        assert areas(nodes).min() > 0.0
        outer = nodes[:, -1]
        ahead = outer[outer[:, 0] < 1.0] - (1.0, 0.0)
        np.testing.assert_allclose(np.linalg.norm(ahead, axis=1), FAR_FIELD)
        np.testing.assert_allclose(nodes[[0, -1], :, 0], FAR_FIELD)


def test_a_refined_grid_keeps_the_outline():
    shape = AirfoilShape.sample(np.random.default_rng(0), 0.05)
    fine = shape.c_grid(2)
    assert fine.shape == (441, 101, 2)
    np.testing.assert_allclose(fine[100:341:2, 0], shape.surface(), atol=1e-15)
    assert areas(fine).min() > 0.0


@pytest.mark.parametrize(
    ("displacements", "message"),
    [
        (((0.0,) * 4, (0.0,) * 3), "must be two rows of four finite numbers"),
        (((0.0,) * 4, (0.0, 0.0, 0.0, float("nan"))), "finite numbers"),
        (((0.2,) * 4, (-0.1,) * 4), "turn the airfoil inside out"),
    ],
)
def test_bad_displacements(displacements, message):
    with pytest.raises(ValueError, match=message):
        AirfoilShape(displacements)
