import pickle
from dataclasses import replace

import numpy as np
import pytest

from torch_geometric_flare.datasets import SimulatedDataset
from torch_geometric_flare.simulation import AdvectionDiffusion, NotConverged
from torch_geometric_flare.simulation.advection_diffusion import blobs

skfem = pytest.importorskip("skfem")


def rng(seed=0):
    return np.random.default_rng(seed)


def rotation(x, y):
    """One turn about the middle of the square in one unit of time."""
    return -2 * np.pi * (y - 0.5), 2 * np.pi * (x - 0.5)


def rotated_blob(t, diffusivity, width=0.08):
    """Return the exact solution in the plane: a blob that turns and spreads."""
    angle = 2 * np.pi * t
    centre = 0.5 + 0.15 * np.cos(angle), 0.5 + 0.15 * np.sin(angle)
    square = width**2 + 2 * diffusivity * t

    def exact(x, y):
        distance = (x - centre[0]) ** 2 + (y - centre[1]) ** 2
        return width**2 / square * np.exp(-0.5 * distance / square)

    return exact


def quadratic(mesh):
    return skfem.Basis(mesh, skfem.ElementTriP2())


def error_of_a_turn(resolution, substeps):
    flow = AdvectionDiffusion(
        resolution, 1, step=0.25, substeps=substeps, diffusivity=1e-3
    )
    basis = quadratic(flow.mesh(rng()))
    found = flow.solve(basis, rotation, rotated_blob(0.0, 1e-3))[:, -1]
    exact = rotated_blob(0.25, 1e-3)(*basis.doflocs)
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


def test_third_order_in_space_for_a_turning_blob():
    errors = [error_of_a_turn(size, 128) for size in (10, 20, 40)]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (orders > 2.5).all(), (errors, orders)
    assert errors[-1] < 2e-3


def test_second_order_in_time_for_a_turning_blob():
    errors = [error_of_a_turn(40, steps) for steps in (8, 16, 32)]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(orders, 2.0, atol=0.2)


def test_the_walls_let_nothing_through():
    """Without flow, a cosine of vanishing slope at the walls decays in its shape."""
    still = AdvectionDiffusion(16, 4, step=0.05, substeps=8, diffusivity=0.1)
    basis = quadratic(still.mesh(rng()))

    def cosines(x, y):
        return np.cos(np.pi * x) * np.cos(np.pi * y)

    found = still.solve(basis, lambda x, y: (0 * x, 0 * y), cosines)
    decay = np.exp(-2 * np.pi**2 * 0.1 * 0.05 * np.arange(5))
    exact = cosines(*basis.doflocs)[:, None] * decay
    np.testing.assert_allclose(found, exact, atol=1e-3)


def test_the_amount_never_changes():
    flow = AdvectionDiffusion(8, 3)
    basis, velocity = quadratic(flow.mesh(rng())), flow.velocity(rng(1))
    integral = skfem.LinearForm(lambda v, w: v).assemble(basis)
    assert integral.sum() == pytest.approx(1.0)  # the area of the square
    concentration = flow.solve(basis, velocity, blobs(rng(2)))
    assert np.abs(concentration[:, -1] - concentration[:, 0]).max() > 0.1
    amounts = integral @ concentration
    np.testing.assert_allclose(amounts, amounts[0], rtol=1e-11)


def test_flow_is_along_the_walls_free_of_divergence_and_as_fast_as_asked():
    velocity = AdvectionDiffusion(speed=0.7).velocity(rng(3))
    line = np.linspace(0.0, 1.0, 201)
    x, y = np.meshgrid(line, line, indexing="ij")
    u, v = velocity(x, y)
    np.testing.assert_allclose(u[[0, -1]], 0.0, atol=1e-12)
    np.testing.assert_allclose(v[:, [0, -1]], 0.0, atol=1e-12)
    middle = 0.5 * (line[1:] + line[:-1])
    mid = np.stack(velocity(*np.meshgrid(middle, middle, indexing="ij")))
    assert np.sqrt((mid**2).sum(0).mean()) == pytest.approx(0.7, rel=1e-6)
    step = 1e-5
    ahead, behind = velocity(x + step, y)[0], velocity(x - step, y)[0]
    above, below = velocity(x, y + step)[1], velocity(x, y - step)[1]
    np.testing.assert_allclose(ahead - behind + above - below, 0.0, atol=1e-10)


def test_a_sample():
    flow = AdvectionDiffusion(6, 5)
    sample = flow.sample(rng())
    assert {name: array.shape for name, array in sample.items()} == {
        "pos": (49, 2),
        "velocity": (49, 2),
        "concentration": (49, 6),
        "cells": (72, 3),
    }
    assert flow.fields[0].channels == 6
    corners = sample["pos"][sample["cells"]]
    one, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    areas = 0.5 * np.abs(one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0])
    assert areas.min() > 0.2 / 72 and areas.sum() == pytest.approx(1.0)
    start = sample["concentration"][:, 0]
    assert start.min() > 0 and start.max() < 3


def test_the_generator_decides_everything():
    flow = AdvectionDiffusion(4, 2)
    first, again, other = (flow.sample(rng(seed)) for seed in (5, 5, 6))
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    for name in ("pos", "velocity", "concentration"):
        assert not np.array_equal(first[name], other[name])
    assert pickle.loads(pickle.dumps(flow)) == flow


def test_finer_steps_and_meshes_change_little():
    coarse = AdvectionDiffusion()
    last = []
    for flow in (coarse, replace(coarse, substeps=16)):
        generator = rng(1)
        basis = quadratic(flow.mesh(generator))
        velocity = flow.velocity(generator)
        last.append(flow.solve(basis, velocity, blobs(generator))[:, -1])
    assert np.linalg.norm(last[0] - last[1]) < 0.02 * np.linalg.norm(last[1])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"resolution": 1}, "`resolution` must be an integer of at least 2, got 1"),
        ({"num_steps": 0}, "`num_steps` must be an integer of at least 1"),
        ({"substeps": 1.0}, "`substeps` must be an integer"),
        ({"step": 0.0}, "`step` must be positive and finite, got 0.0"),
        ({"speed": float("inf")}, "`speed` must be positive and finite"),
        ({"diffusivity": float("nan")}, "`diffusivity` must be positive"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        AdvectionDiffusion(**parameters)


@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")
def test_a_solution_that_is_not_finite_is_never_returned():
    flow = AdvectionDiffusion(4, 2)
    basis = quadratic(flow.mesh(rng()))
    with pytest.raises(NotConverged, match="residual of the concentration is nan"):
        flow.solve(basis, rotation, lambda x, y: np.full_like(x, np.nan))


def test_as_a_data_set(tmp_path):
    data = SimulatedDataset(tmp_path, AdvectionDiffusion(4, 2), 1, num_workers=0)[0]
    assert data.x.shape == (25, 4) and data.y.shape == (25, 3)
    assert data.x[:, 2:].equal(data.velocity)
