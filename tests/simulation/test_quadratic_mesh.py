import numpy as np
import pytest

from torch_geometric_flare.simulation import NotConverged
from torch_geometric_flare.simulation.quadratic_mesh import (
    QuadraticMesh,
    quadratic_interpolation,
)


def ring(lines=32, rings=9):
    angle = -2 * np.pi * np.arange(lines) / lines
    radius = np.linspace(0.2, 0.5, rings)
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)[:, None]


def sheared(rows=7, columns=5):
    x, y = np.meshgrid(np.linspace(0, 2, rows), np.linspace(0, 1, columns))
    return np.stack([x.T + 0.3 * y.T, y.T - 0.2 * x.T], axis=-1)


@pytest.mark.parametrize(("lattice", "periodic"), [(ring(), True), (sheared(), False)])
def test_shape_functions(lattice, periodic):
    mesh = QuadraticMesh.from_lattice(lattice, periodic)
    points = lattice.reshape(-1, 2)
    local = points[mesh.nodes]
    # The gradient of the coordinates, and values by the other set of functions.
    gradient = np.einsum("eai,eaqj->eqij", local, mesh.gradients)
    np.testing.assert_allclose(
        gradient, np.broadcast_to(np.eye(2), gradient.shape), atol=1e-12
    )
    np.testing.assert_allclose(mesh.values.sum(axis=0), 1.0)
    np.testing.assert_allclose(mesh.linear_values.sum(axis=0), 1.0)
    if not periodic:
        assert mesh.weights.sum() == pytest.approx(2.0 * (1 + 0.06))
        at_points = np.einsum("aq,eai->eqi", mesh.values, local)
        by_corners = np.einsum("aq,eai->eqi", mesh.linear_values, local[:, :4])
        np.testing.assert_allclose(at_points, by_corners, atol=1e-12)
    else:
        area = np.pi * (0.25 - 0.04)
        assert mesh.weights.sum() == pytest.approx(area, rel=1e-3)


def test_inverted_elements_raise():
    with pytest.raises(NotConverged, match="an element of the mesh is inverted"):
        QuadraticMesh.from_lattice(sheared()[::-1])


def test_interpolation_is_exact_for_quadratics():
    nodes, points = np.linspace(-1, 1, 7), np.linspace(-1, 1, 20)
    matrix = quadratic_interpolation(20, 3)
    np.testing.assert_allclose(matrix @ (nodes**2 - nodes), points**2 - points)
