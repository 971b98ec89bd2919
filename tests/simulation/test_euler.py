import numpy as np
import pytest

from torch_geometric_flare.simulation import AirfoilShape
from torch_geometric_flare.simulation.euler import CGridEuler

GRID = AirfoilShape.sample(np.random.default_rng(3), 0.05).c_grid()


@pytest.mark.parametrize("incidence", [0.0, 3.0])
def test_the_free_stream_is_kept(incidence):
    flow = CGridEuler(GRID, 50, 0.8, np.float64, incidence)
    velocity = flow.state[1:3, 0, 0] / np.sqrt(1.4)
    assert np.hypot(*velocity) == pytest.approx(0.8)
    assert np.degrees(np.arctan2(*velocity[::-1])) == pytest.approx(incidence)
    before = flow.state.copy()
    flow.update_ghosts()
    # Beside the airfoil the free stream is not a solution: it crosses the wall.
    beside = np.zeros(flow.state.shape[1:], dtype=bool)
    beside[:2, 52:-52] = True
    np.testing.assert_allclose(flow.state[:, ~beside], before[:, ~beside], rtol=1e-13)
    residual = flow.residual()
    scale = np.abs(GRID).max()
    assert np.abs(residual[:, 1:]).max() < 1e-13 * scale
    assert np.abs(residual[:, 0, :50]).max() < 1e-13 * scale
    assert np.abs(residual[:, 0, -50:]).max() < 1e-13 * scale
    assert np.abs(residual[:, 0, 50:-50]).max() > 1e-4


def test_interior_fluxes_cancel():
    # What leaves all cells passes the outer boundary or the wall: for a disturbance
    # inside, only the momentum that the wall takes up.
    flow = CGridEuler(GRID, 50, 0.8, np.float64)
    base = flow.residual().sum(axis=(1, 2))
    bump = 0.1 * np.random.default_rng(0).random((4, 20, 200))
    flow.cells[:, 5:25, 10:-10] += bump
    flow.update_ghosts()
    assert np.abs(flow.residual()).max() > 1e-2
    np.testing.assert_allclose(flow.residual().sum(axis=(1, 2)), base, atol=1e-11)


def test_both_sides_of_the_wake_are_neighbours():
    # A disturbance below the wake reaches the cells above it at once.
    flow = CGridEuler(AirfoilShape().c_grid(), 50, 0.8, np.float64)
    flow.cells[:, 0, 20] *= 1.001
    flow.update_ghosts()
    residual = flow.residual()
    touched = np.abs(residual).max(axis=0) > 1e-9
    touched[0, 50:-50] = False
    assert set(np.flatnonzero(touched[0])) >= {19, 20, 21, 199}
    assert set(np.flatnonzero(touched[1])) == {20, 199}


def test_no_mass_and_no_energy_pass_the_wall():
    # Whatever stands in the ghosts behind it: columns of cells exchange the same.
    flow = CGridEuler(GRID, 50, 0.8, np.float64)
    flow.iterate(5, 7.0)
    columns = flow.residual().sum(axis=1)
    flow.state[1:3, :2, 52:-52] *= -1.0
    changed = flow.residual()
    np.testing.assert_allclose(changed.sum(axis=1), columns, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_stays(dtype):
    flow = CGridEuler(GRID[::2, ::2], 25, 0.8, dtype)
    flow.iterate(2, 6.0)
    assert flow.state.dtype == flow.pressure.dtype == flow.residual().dtype == dtype


def test_the_opposite_incidence_is_the_mirror_image():
    grid = AirfoilShape().c_grid()[::2, ::2]
    up, down = (CGridEuler(grid, 25, 0.7, np.float64, angle) for angle in (2.0, -2.0))
    for flow in (up, down):
        flow.iterate(20, 6.0)
    mirrored = down.cells[:, :, ::-1] * np.reshape([1, 1, -1, 1], (4, 1, 1))
    np.testing.assert_allclose(up.cells, mirrored, atol=1e-10)
    assert np.abs(up.cells - down.cells).max() > 1e-2
