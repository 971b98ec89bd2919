import numpy as np
import pytest
from scipy.sparse import coo_array

from torch_geometric_flare.simulation.block_tridiagonal import Layer, solve_growing

SIZES = [3, 4, 2, 5]
TOUCHED = [[0, 2, 3], [0, 1], [1, 2, 4]]
# Unknown 1 of plane 1 first exists in layer 2; 0 and 3 of plane 3 in no layer.


def random_layers(rng):
    layers = []
    for below, upper in zip(SIZES, TOUCHED, strict=False):
        root = rng.normal(size=(below + len(upper), 20))
        matrix = root @ root.T
        load = rng.normal(size=len(matrix))
        layers.append(
            Layer(
                np.array(upper),
                coo_array(matrix[:below, :below]),
                coo_array(matrix[:below, below:]),
                coo_array(matrix[below:, below:]),
                load[:below],
                load[below:],
            )
        )
    return layers


def solve_every_step(layers):
    """Factor the whole matrix of each step; return the increments, plane by plane."""
    first = np.concatenate([[0], np.cumsum(SIZES)])
    matrix = np.zeros((first[-1], first[-1]))
    steps = []
    for number, layer in enumerate(layers):
        load = np.zeros(first[-1])
        lower = first[number] + np.arange(SIZES[number])
        both = np.concatenate([lower, first[number + 1] + layer.upper])
        coupling = layer.coupling.toarray()
        matrix[np.ix_(both, both)] += np.block(
            [
                [layer.lower_stiffness.toarray(), coupling],
                [coupling.T, layer.upper_stiffness.toarray()],
            ]
        )
        load[both] = np.concatenate([layer.lower_load, layer.upper_load])
        free = np.flatnonzero(matrix.any(axis=1))
        free = free[free >= SIZES[0]]
        increment = np.zeros(first[-1])
        increment[free] = np.linalg.solve(matrix[np.ix_(free, free)], load[free])
        steps.append(np.split(increment, first[1:-1]))
    return steps


@pytest.mark.parametrize("count", [1, 2, 3])
def test_agrees_with_a_solution_of_every_step(count):
    layers = random_layers(np.random.default_rng(0))[:count]
    steps = solve_every_step(layers)
    total, later = solve_growing(SIZES[: count + 1], layers)
    for plane in range(count + 1):
        increments = [step[plane] for step in steps]
        np.testing.assert_allclose(total[plane], sum(increments), rtol=1e-10)
        np.testing.assert_allclose(
            later[plane], sum(increments[plane:], np.zeros(SIZES[plane])), rtol=1e-10
        )


def test_an_unstable_stack_is_an_error():
    layer = Layer(
        np.array([0]),
        *(coo_array(np.zeros((1, 1))) for _ in range(3)),
        np.ones(1),
        np.ones(1),
    )
    with pytest.raises(np.linalg.LinAlgError):
        solve_growing([1, 1], [layer])
