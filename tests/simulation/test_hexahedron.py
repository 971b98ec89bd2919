import numpy as np
import pytest

from torch_geometric_flare.simulation.hexahedron import CORNERS, Hexahedron, von_mises

CUBE = Hexahedron(2.0, 110e3, 0.342)


def test_linear_displacements_have_their_strain_everywhere():
    gradient = np.random.default_rng(0).normal(size=(3, 3))
    u = (2.0 * CORNERS @ gradient.T).ravel()
    symmetric = gradient + gradient.T
    expected = [*np.diag(gradient), symmetric[1, 2], symmetric[0, 2], symmetric[0, 1]]
    for point in ((0.5, 0.5, 0.5), (0.1, 0.9, 0.3)):
        np.testing.assert_allclose(CUBE.strain(point) @ u, expected, atol=1e-14)
    # Energy of a constant strain, and the load of the strain that causes it.
    energy = 8.0 * np.array(expected) @ CUBE.elasticity @ expected
    assert u @ CUBE.stiffness() @ u == pytest.approx(energy)
    np.testing.assert_allclose(
        CUBE.stiffness() @ u, CUBE.load(np.array(expected)), atol=1e-8 * energy
    )


def test_stiffness_has_six_rigid_motions():
    values = np.linalg.eigvalsh(CUBE.stiffness())
    assert (np.abs(values[:6]) < 1e-10 * values[-1]).all()
    assert values[6] > 1e-3 * values[-1]


def test_uniaxial_stress():
    strain = np.array([1e-3, -0.342e-3, -0.342e-3, 0, 0, 0])
    np.testing.assert_allclose(
        CUBE.elasticity @ strain, [110.0, 0, 0, 0, 0, 0], atol=1e-10
    )


@pytest.mark.parametrize(
    ("stress", "expected"),
    [
        ([110.0, 0, 0, 0, 0, 0], 110.0),
        ([0, 0, 0, 0, 10.0, 0], 10.0 * np.sqrt(3.0)),
        ([7.0, 7.0, 7.0, 0, 0, 0], 0.0),
        ([20.0, 20.0, 0, 0, 0, 0], 20.0),
    ],
)
def test_von_mises(stress, expected):
    assert von_mises(np.array(stress)) == pytest.approx(expected)
