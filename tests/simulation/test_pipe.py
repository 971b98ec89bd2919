import pickle

import numpy as np
import pytest

from torch_geometric_flare.simulation import NotConverged, PipeFlow
from torch_geometric_flare.simulation.pipe import middle_line


def rng(seed=0):
    return np.random.default_rng(seed)


def curved(seed=0):
    coefficients = np.zeros((5, 2))
    coefficients[1:] = rng(seed).uniform(-1.0, 1.0, (4, 2))
    return coefficients


def test_the_straight_pipe_is_exact():
    flow = PipeFlow(16, 4).solve(np.zeros((5, 2)))
    eta = np.linspace(-0.5, 0.5, 9)
    np.testing.assert_allclose(
        flow.velocity[..., 0], np.tile(1 - 4 * eta**2, (33, 1)), atol=1e-13
    )
    np.testing.assert_allclose(flow.velocity[..., 1], 0.0, atol=1e-13)
    pressure = 0.4 * (1.0 - np.linspace(0.0, 1.0, 17))
    np.testing.assert_allclose(flow.pressure, np.tile(pressure[:, None], 5), atol=1e-12)


def test_curved_pipe():
    flow = PipeFlow().solve(curved())
    assert flow.points.shape == flow.velocity.shape == (129, 17, 2)
    assert flow.pressure.shape == (65, 9)
    assert (flow.velocity[:, [0, -1]] == 0).all()
    eta = np.linspace(-0.5, 0.5, 17)
    np.testing.assert_array_equal(flow.velocity[0, :, 0], 1 - 4 * eta**2)
    weights = np.tile([2.0, 4.0], 9)[:17] / 48
    weights[[0, -1]] /= 2
    flux = flow.velocity[..., 0] @ weights  # Simpson, across
    np.testing.assert_allclose(flux, 2 / 3, rtol=0.005)
    # Newton's method: the exponent about doubles in each of its steps.
    assert len(flow.residuals) == 4
    assert flow.residuals[-1] <= 1e-6
    assert flow.residuals[-1] < 0.01 * flow.residuals[-2]
    assert flow.velocity[..., 0].min() > -0.05
    assert 1.0 < flow.velocity[..., 0].max() < 1.32
    assert np.abs(flow.pressure[-1]).max() < 0.05 * flow.pressure[0].mean()


@pytest.mark.slow
def test_finer_meshes_converge():
    reference, *meshes = (
        PipeFlow(along, across).sample(rng())["velocity_x"]
        for along, across in ((128, 32), (32, 4), (64, 8), (64, 12), (128, 16))
    )
    errors = [
        np.linalg.norm(mesh - reference) / np.linalg.norm(reference) for mesh in meshes
    ]
    assert errors[1] < 0.006
    assert errors[2] < 0.002
    # Order three for smooth flow; the corner of wall and outlet costs some.
    assert np.log2(errors[0] / errors[1]) > 2.0
    assert np.log2(errors[1] / errors[3]) > 2.0


def test_fields():
    sample = PipeFlow().sample(rng())
    assert {name: array.shape for name, array in sample.items()} == {
        "pos": (16641, 2),
        "velocity_x": (16641, 1),
        "grid": (2,),
    }
    assert sample["pos"].dtype == sample["velocity_x"].dtype == np.float64
    assert sample["grid"].tolist() == [129, 129]
    pos = sample["pos"].reshape(129, 129, 2)
    along = np.linspace(0.0, 10.0, 129)
    np.testing.assert_allclose(pos[:, :, 0], np.tile(along[:, None], 129), atol=1e-12)
    across = middle_line(curved(), along)[:, None] + np.linspace(-0.5, 0.5, 129)
    np.testing.assert_allclose(pos[:, :, 1], across, atol=1e-12)
    # At the nodes the sample is the solution.
    nodes = sample["velocity_x"].reshape(129, 129)[:, ::8]
    expected = PipeFlow().solve(curved()).velocity[..., 0]
    np.testing.assert_allclose(nodes, expected, atol=1e-12)


def test_points_off_the_nodes_are_quadratic():
    sample = PipeFlow(20, 3).sample(rng())
    inlet = sample["velocity_x"].reshape(129, 129)[0, :]
    eta = np.linspace(-0.5, 0.5, 129)
    np.testing.assert_allclose(inlet, 1 - 4 * eta**2, atol=1e-13)


def test_middle_line():
    coefficients = curved()
    nodes = np.linspace(0.0, 10.0, 5)
    np.testing.assert_allclose(middle_line(coefficients, nodes), coefficients[:, 0])
    step = 1e-6
    inner = nodes[1:-1]
    for side in (-step, step):
        rise = middle_line(coefficients, inner + side) - coefficients[1:-1, 0]
        slope = rise / side
        np.testing.assert_allclose(slope, coefficients[1:-1, 1] / 2.5, atol=1e-4)
    # A cubic is its own Hermite curve.
    x = np.linspace(0.0, 10.0, 31)
    cubic = np.stack([nodes**3, 2.5 * 3 * nodes**2], axis=1)
    np.testing.assert_allclose(middle_line(cubic, x), x**3, atol=1e-9)


def test_the_generator_decides_everything():
    flow = PipeFlow(16, 3)
    first, again, other = (flow.sample(rng(seed)) for seed in (5, 5, 6))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert not np.allclose(first["pos"], other["pos"])
    assert pickle.loads(pickle.dumps(flow)) == flow


def test_newton_that_does_not_converge_raises():
    with pytest.raises(NotConverged, match="momentum residual .* after 10 steps"):
        PipeFlow(32, 6, viscosity=1e-4).solve(curved())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"elements_along": 3}, "`elements_along` must be an integer of at least 4"),
        ({"elements_across": 2.0}, "`elements_across` must be an integer of at least"),
        ({"elements_across": 1}, "at least 2, got 1"),
        ({"viscosity": 0.0}, "`viscosity` .*1e-06.* got 0.0"),
        ({"viscosity": np.nan}, "`viscosity` .*nan"),
        ({"viscosity": (0.01, 0.002)}, r"`viscosity` .*\(0\.01, 0\.002\)"),
        ({"viscosity": (0.0, 0.002)}, r"`viscosity` .*\(0\.0, 0\.002\)"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        PipeFlow(**parameters)


@pytest.mark.parametrize("bad", [np.zeros((4, 2)), np.full((5, 2), np.inf)])
def test_bad_coefficients(bad):
    with pytest.raises(ValueError, match="must hold 5 x 2 finite numbers"):
        PipeFlow().solve(bad)


def test_viscosities():
    flow = PipeFlow(16, 4, viscosity=(0.002, 0.01))
    for viscosity in (0.002, 0.005, 0.01):
        pressure = flow.solve(np.zeros((5, 2)), viscosity).pressure
        np.testing.assert_allclose(pressure[0] / viscosity, 80.0, rtol=1e-9)
    with pytest.raises(ValueError, match=r"viscosity.*\(0\.002, 0\.01\)"):
        flow.solve(np.zeros((5, 2)))
    assert PipeFlow().conditions == ()
    assert [str(field) for field in flow.conditions] == ["viscosity"]


def test_a_drawn_viscosity_is_that_of_the_flow():
    sample = PipeFlow(16, 4, viscosity=(0.002, 0.01)).sample(rng(3))
    (viscosity,) = sample.pop("viscosity")
    assert 0.002 < viscosity < 0.01
    same = PipeFlow(16, 4, viscosity=viscosity).sample(rng(3))
    assert set(same) == set(sample)
    for name, values in sample.items():
        np.testing.assert_array_equal(values, same[name])


def test_viscosities_are_even_by_their_logarithm():
    from torch_geometric_flare.simulation.parameter import draw

    drawn = [np.log(draw(rng(n), (0.002, 0.01), log=True)) for n in range(400)]
    share = (np.array(drawn) - np.log(0.002)) / np.log(5.0)
    assert share.min() > 0 and share.max() < 1
    assert abs(share.mean() - 0.5) < 0.05
    assert np.std(share) == pytest.approx(12**-0.5, rel=0.1)
