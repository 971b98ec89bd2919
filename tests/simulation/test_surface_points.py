import numpy as np
import pytest

from torch_geometric_flare.simulation.surface_points import (
    lattice_quads,
    nodal_mean,
    sample_quads,
)

SQUARE = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
TRAPEZIUM = [[0, 0, 0], [4, 0, 0], [2, 1, 0], [1, 1, 0]]
TRIANGLE = [[0, 0, 0], [0, 0, 0], [3, 0, 0], [0, 3, 0]]


def test_lattice_quads_keep_their_order():
    lattice = np.stack(np.meshgrid([0.0, 1.0], [0.0, 2.0, 4.0], indexing="ij"), axis=-1)
    np.testing.assert_array_equal(
        lattice_quads(lattice),
        [
            [[0, 0], [0, 2], [1, 2], [1, 0]],
            [[0, 2], [0, 4], [1, 4], [1, 2]],
        ],
    )


def test_nodal_mean_weighs_by_area():
    values, areas = np.array([[1.0, 4.0]]), np.array([[2.0, 1.0]])
    np.testing.assert_allclose(nodal_mean(values, areas), [[1, 2, 4], [1, 2, 4]])


@pytest.mark.parametrize(
    ("quad", "centroid", "spread"),
    [
        # Exact mean and variance of x over each shape.
        (SQUARE, (1 / 2, 1 / 2), 1 / 12),
        (TRAPEZIUM, (9 / 5, 2 / 5), None),
        (TRIANGLE, (1, 1), 1 / 2),
        (TRIANGLE[1:] + TRIANGLE[:1], (1, 1), 1 / 2),
        (TRIANGLE[2:] + TRIANGLE[:2], (1, 1), 1 / 2),
    ],
)
def test_points_are_even_over_the_area(quad, centroid, spread):
    quad = np.array(quad, dtype=float)
    panel, weights = sample_quads(
        quad[None], np.ones(1), 200_000, np.random.default_rng(0)
    )
    assert not panel.any()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    points = weights @ quad
    np.testing.assert_allclose(points[:, :2].mean(axis=0), centroid, atol=0.01)
    if spread:
        assert points[:, 0].var() == pytest.approx(spread, rel=0.01)


def test_counts_follow_the_areas():
    quads = np.array([SQUARE] * 3, dtype=float)
    panel, _ = sample_quads(
        quads, np.array([1.0, 5.0, 4.0]), 1001, np.random.default_rng(3)
    )
    counts = np.bincount(panel, minlength=3)
    assert counts.sum() == 1001
    assert np.abs(counts - 1001 * np.array([0.1, 0.5, 0.4])).max() <= 1
    assert (np.diff(panel) < 0).sum() > 100  # not sorted
