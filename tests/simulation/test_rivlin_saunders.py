import numpy as np
import pytest

from torch_geometric_flare.simulation.rivlin_saunders import (
    C1,
    C2,
    cauchy_stress,
    energy,
    first_piola_kirchhoff,
    tangent,
)


@pytest.fixture
def gradient():
    return np.eye(2) + 0.1 * np.random.default_rng(0).standard_normal((3, 2, 2))


def differences(function, gradient, shape, step=1e-6):
    result = np.empty((len(gradient), *shape, 2, 2))
    for k, m in np.ndindex(2, 2):
        shift = np.zeros((2, 2))
        shift[k, m] = step
        change = function(gradient + shift) - function(gradient - shift)
        result[..., k, m] = change / (2 * step)
    return result


def test_stress_and_tangent_are_derivatives(gradient):
    expected = differences(energy, gradient, ())
    np.testing.assert_allclose(first_piola_kirchhoff(gradient), expected, atol=1e-3)
    expected = differences(first_piola_kirchhoff, gradient, (2, 2))
    np.testing.assert_allclose(tangent(gradient), expected, atol=1e-2)


def test_no_stress_without_deformation_or_by_rotation():
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    np.testing.assert_allclose(first_piola_kirchhoff(np.eye(2)), 0.0, atol=1e-9)
    np.testing.assert_allclose(first_piola_kirchhoff(turn), 0.0, atol=1e-9)


def test_uniaxial_tension_of_mooney_rivlin_rubber():
    stretch = 1.5
    gradient = np.diag([stretch**-0.5, stretch])
    expected = 2 * (stretch**2 - 1 / stretch) * (C1 + C2 / stretch)
    np.testing.assert_allclose(
        cauchy_stress(gradient), np.diag([0.0, expected]), atol=1e-8
    )
