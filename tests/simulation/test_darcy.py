import pickle

import numpy as np
import pytest

from torch_geometric_flare.datasets import SimulatedDataset
from torch_geometric_flare.simulation import DarcyFlow, NotConverged


def rng(seed=0):
    return np.random.default_rng(seed)


def series_maximum(terms=200):
    """Return u at the middle of the square for a = 1, by its double sine series."""
    odd = np.arange(1, 2 * terms, 2.0)
    m, n = odd[:, None], odd
    sign = (-1.0) ** ((m + n) / 2 - 1)
    return 16 / np.pi**4 * (sign / (m * n * (m**2 + n**2))).sum()


def test_constant_permeability_has_the_maximum_of_the_series():
    exact = series_maximum()
    assert exact == pytest.approx(0.07367, abs=1e-5)
    sizes = (43, 85, 169)
    found = [DarcyFlow().solve(np.full((size, size), 4.0)).max() for size in sizes]
    errors = [abs(4.0 * value - exact) for value in found]
    assert errors[2] < 3e-6
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)
    assert np.log2(errors[1] / errors[2]) == pytest.approx(2.0, abs=0.1)


def test_second_order_for_a_manufactured_solution():
    errors = []
    for size in (22, 43, 85):
        x = np.linspace(0.0, 1.0, size)[:, None]
        y = x.T
        sx, cx = np.sin(np.pi * x), np.cos(np.pi * x)
        sy, cy = np.sin(2 * np.pi * y), np.cos(2 * np.pi * y)
        a = 1.0 + x + 2.0 * y**2
        source = 5 * np.pi**2 * a * sx * sy - np.pi * cx * sy - 8 * np.pi * y * sx * cy
        errors.append(np.abs(DarcyFlow().solve(a, source) - sx * sy).max())
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(orders, 2.0, atol=0.05)
    assert errors[-1] < 5e-4


def test_fields():
    sample = DarcyFlow().sample(rng())
    n = 85 * 85
    assert {name: array.shape for name, array in sample.items()} == {
        "pos": (n, 2),
        "permeability": (n, 1),
        "pressure": (n, 1),
        "grid": (2,),
    }
    assert sample["pos"].dtype == sample["pressure"].dtype == np.float64
    assert sample["grid"].tolist() == [85, 85]
    pos = sample["pos"].reshape(85, 85, 2)
    np.testing.assert_allclose(pos[3, 5], [3 / 84, 5 / 84], atol=1e-15)
    pressure = sample["pressure"].reshape(85, 85)
    edge = np.concatenate([pressure[[0, -1]], pressure[:, [0, -1]].T])
    assert (edge == 0).all()
    assert pressure[1:-1, 1:-1].min() > 0
    assert set(np.unique(sample["permeability"])) == {3.0, 12.0}


def test_statistics():
    media = [DarcyFlow(22, 43).sample(rng(seed)) for seed in range(60)]
    share = np.mean([(medium["permeability"] == 12).mean() for medium in media])
    assert share == pytest.approx(0.5, abs=0.05)
    peaks = [medium["pressure"].max() for medium in media]
    assert 0.012 < np.mean(peaks) < 0.015


def test_the_generator_decides_everything():
    flow = DarcyFlow(22, 43)
    first, again, other = (flow.sample(rng(seed)) for seed in (5, 5, 6))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert not np.array_equal(first["permeability"], other["permeability"])
    assert pickle.loads(pickle.dumps(flow)) == flow


def test_resolutions_show_the_same_medium():
    fine = DarcyFlow(85).sample(rng(3))
    for size in (22, 43):
        coarse = DarcyFlow(size).sample(rng(3))
        step = 84 // (size - 1)
        for name in ("permeability", "pressure"):
            np.testing.assert_array_equal(
                coarse[name].reshape(size, size),
                fine[name].reshape(85, 85)[::step, ::step],
            )
    other = DarcyFlow(64, 190).sample(rng(3))
    shared = other["permeability"].reshape(64, 64)[::3, ::3]
    medium = fine["permeability"].reshape(85, 85)[::4, ::4]
    np.testing.assert_array_equal(shared, medium)


def test_a_finer_solver_changes_little():
    coarse, default, fine = (
        DarcyFlow(85, size).sample(rng(1))["pressure"] for size in (85, 169, 337)
    )
    near, far = (
        np.linalg.norm(x - fine) / np.linalg.norm(fine) for x in (default, coarse)
    )
    assert near < 0.006
    assert near < far < 0.02


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"resolution": 2}, "`resolution` must be an integer of at least 3, got 2"),
        ({"resolution": 85.0}, "`resolution` must be an integer"),
        ({"modes": True}, "`modes` must be an integer of at least 2, got True"),
        ({"solve_resolution": 0}, "`solve_resolution` must be an integer"),
        ({"resolution": 64}, "got 169 and 64: .* solve_resolution=190"),
        ({"solve_resolution": 50}, "got 50 and 85: .* solve_resolution=85"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        DarcyFlow(**parameters)


@pytest.mark.parametrize(
    ("permeability", "message"),
    [
        (np.ones((4, 5)), r"must be of shape \[S, S\], S >= 3, got \(4, 5\)"),
        (np.ones((2, 2)), "must be of shape"),
        (np.zeros((4, 4)), "must be positive and finite, got values from 0.0"),
        (np.full((4, 4), np.nan), "must be positive and finite"),
    ],
)
def test_bad_permeability(permeability, message):
    with pytest.raises(ValueError, match=message):
        DarcyFlow().solve(permeability)


@pytest.mark.parametrize("source", [np.nan, np.ones((4, 5)), np.ones(5)])
def test_bad_source(source):
    with pytest.raises(ValueError, match="`source` must be"):
        DarcyFlow().solve(np.ones((5, 5)), source)


@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")
def test_a_solution_that_is_not_finite_is_never_returned():
    with pytest.raises(NotConverged, match="residual of the pressure is nan"):
        DarcyFlow().solve(np.full((5, 5), 1e-3), 1e308)


def test_the_smallest_grid_has_one_unknown():
    sample = DarcyFlow(resolution=3, solve_resolution=3).sample(rng())
    a = sample["permeability"].reshape(3, 3)
    faces = 0.5 * (a[1, 1] + a[[0, 2, 1, 1], [1, 1, 0, 2]])
    expected = np.zeros((3, 3))
    expected[1, 1] = 0.25 / faces.sum()
    np.testing.assert_allclose(sample["pressure"].reshape(3, 3), expected)


def test_as_a_data_set(tmp_path):
    data = SimulatedDataset(tmp_path, DarcyFlow(22, 43), 1, num_workers=0)[0]
    assert data.x.shape == (484, 3)
    assert data.x[:, :2].equal(data.pos)
    assert data.x[:, 2:].equal(data.permeability)
    assert data.grid == (22, 22)
