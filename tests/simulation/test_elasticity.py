import pickle

import numpy as np
import pytest

from torch_geometric_flare.simulation import Hyperelastic, NotConverged
from torch_geometric_flare.simulation.elasticity import void_radius
from torch_geometric_flare.simulation.rivlin_saunders import C1, C2


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def small_hole():
    return Hyperelastic().solve(np.full(144, 0.05))


def test_stress_concentration_of_a_small_hole(small_hole):
    # Rays: 18 along +x, 90 along -x, 126 along +y.
    side, pole = small_hole.points[18], small_hole.points[126]
    np.testing.assert_allclose(side[0], [0.55, 0.5], atol=1e-12)
    np.testing.assert_allclose(pole[0], [0.5, 0.55], atol=1e-12)
    vertical = small_hole.stress[18, :, 1]
    ratio = 0.05 / (side[:, 0] - 0.5)
    kirsch = 1.0 + 0.5 * ratio**2 + 1.5 * ratio**4
    far = (vertical / kirsch)[8:15].mean()  # the stress in the middle, without hole
    assert far == pytest.approx(100.0, rel=0.06)
    assert vertical[0] / far == pytest.approx(3.0, rel=0.03)
    np.testing.assert_allclose(vertical[:12] / far, kirsch[:12], rtol=0.04)
    assert small_hole.stress[126, 0, 0] / far == pytest.approx(-1.0, abs=0.06)
    # No load on the void.
    assert np.abs(small_hole.stress[18, 0, [0, 2]]).max() < 0.05 * vertical[0]
    # The specimen is the same on the left and on the right.
    np.testing.assert_allclose(small_hole.stress[90, :, 1], vertical, rtol=1e-9)


# A void close to the edge makes the stress there harder to resolve.
@pytest.mark.parametrize(("seed", "tolerance"), [(None, 1e-3), (0, 0.01)])
def test_the_stress_carries_the_load(seed, tolerance, small_hole):
    solution = (
        small_hole if seed is None else Hyperelastic().solve(void_radius(rng(seed)))
    )
    top = np.arange(108, 145) % 144
    x, stress = solution.points[top, -1, 0], solution.stress[top, -1, 1]
    assert (solution.points[top, -1, 1] == 1.0).all()
    assert (np.diff(x) > 0).all()
    left, middle, right = x[:-2:2], x[1:-1:2], x[2::2]
    force = (
        stress[:-2:2] * (4 * middle - 3 * left - right)
        + 4 * stress[1:-1:2] * (right - left)
        + stress[2::2] * (left + 3 * right - 4 * middle)
    ).sum() / 6
    assert force == pytest.approx(100.0, rel=tolerance)


def test_boundary_conditions_and_stretch(small_hole):
    bottom = small_hole.points[..., 1] == 0.0
    assert bottom.sum() == 37
    assert (small_hole.displacement[bottom] == 0).all()
    # Young's modulus of incompressible rubber at small strains.
    expected = 100.0 / (6.0 * (C1 + C2))
    top = small_hole.displacement[126, -1, 1]
    assert top == pytest.approx(expected, rel=0.1)


def test_small_loads_are_linear():
    radius = void_radius(rng(1))
    half, whole = (Hyperelastic(load).solve(radius) for load in (5.0, 10.0))
    np.testing.assert_allclose(whole.stress, 2 * half.stress, atol=0.02)


def test_newton_reaches_balance():
    solution = Hyperelastic().solve(void_radius(rng()))
    assert solution.residuals[-1] <= 1e-6
    assert 1e-4 < solution.residuals[0] < 0.05
    strong = Hyperelastic(3e4).solve(void_radius(rng()))
    assert strong.residuals[-1] <= 1e-6
    assert len(strong.residuals) > len(solution.residuals)


def test_too_strong_a_load_does_not_converge():
    with pytest.raises(NotConverged, match="inverted"):
        Hyperelastic(1e6).sample(rng())


def test_fields():
    sample = Hyperelastic().sample(rng())
    assert {name: array.shape for name, array in sample.items()} == {
        "pos": (972, 2),
        "stress": (972, 1),
        "cells": (936, 4),
    }
    pos, stress = sample["pos"], sample["stress"]
    assert pos.dtype == stress.dtype == np.float64
    assert pos.min() == 0.0 and pos.max() == 1.0
    assert len(np.unique(pos, axis=0)) == 972
    assert stress.min() > 0.0
    for corner in np.ndindex(2, 2):
        assert (pos == corner).all(axis=1).any()
    distance = np.linalg.norm(pos - 0.5, axis=1)
    assert 0.2 < distance.min() < 0.4


@pytest.mark.parametrize("seed", range(3))
def test_cells_fill_the_square_around_the_void(seed):
    sample = Hyperelastic().sample(rng(seed))
    first, second, third, fourth = np.moveaxis(sample["pos"][sample["cells"]], 1, 0)
    a, b = third - first, fourth - second
    area = 0.5 * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    assert area.min() > 0.0
    radius = void_radius(rng(seed))[::4]
    void = 0.5 * np.sin(2 * np.pi / 36) * (radius * np.roll(radius, 1)).sum()
    assert area.sum() == pytest.approx(1.0 - void, abs=1e-12)
    assert len(np.unique(sample["cells"])) == 972


def test_statistics():
    stress = np.stack([Hyperelastic().sample(rng(seed))["stress"] for seed in range(8)])
    assert stress.mean() == pytest.approx(205.0, abs=25.0)
    assert stress.std() == pytest.approx(155.0, abs=25.0)


def test_voids():
    radius = np.stack([void_radius(rng(seed)) for seed in range(200)])
    assert 0.2 < radius.min() < 0.22 and 0.38 < radius.max() < 0.4
    assert radius.mean() == pytest.approx(0.3, abs=0.01)
    # Ten coefficients, without a constant: the logit sums to zero around the void.
    field = np.log(0.2 / (radius - 0.2) - 1.0)
    np.testing.assert_allclose(field.mean(axis=1), 0.0, atol=1e-12)
    assert np.linalg.matrix_rank(field, tol=1e-6) == 10
    k = np.arange(1, 6)
    variance = (16 / (np.pi * (k**2 + 9))).sum()
    assert field.var() == pytest.approx(variance, rel=0.15)


def test_the_generator_decides_everything():
    first, again, other = (Hyperelastic().sample(rng(seed)) for seed in (5, 5, 6))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert not np.allclose(first["pos"], other["pos"])
    assert pickle.loads(pickle.dumps(Hyperelastic(50.0))) == Hyperelastic(50.0)


@pytest.mark.parametrize("traction", [0.0, -1.0, np.nan, np.inf])
def test_bad_parameters(traction):
    with pytest.raises(ValueError, match="`traction` must be positive and finite"):
        Hyperelastic(traction)


@pytest.mark.parametrize(
    "radius", [np.full(10, 0.3), np.full(144, 0.5), np.zeros(144), np.full(144, np.nan)]
)
def test_bad_radius(radius):
    with pytest.raises(ValueError, match="`radius` must hold 144 numbers between"):
        Hyperelastic().solve(radius)
