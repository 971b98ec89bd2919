from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from torch_geometric_flare.datasets.simulated_files import read_sample
from torch_geometric_flare.datasets.simulator import make_arrays
from torch_geometric_flare.fields import Field

SIZE = 6


@dataclass
class Simulator:
    fields: tuple = (Field("stress"), Field("flow", 2))
    features: tuple = (Field("modulus", 1, "Pa"),)
    coordinate_bounds: Any = None


def raw(**change):
    arrays = {
        "pos": np.arange(2.0 * SIZE).reshape(SIZE, 2),
        "stress": np.arange(SIZE),
        "flow": np.ones((SIZE, 2)),
        "modulus": np.full((SIZE, 1), 5.0),
        **change,
    }
    return {name: array for name, array in arrays.items() if array is not None}


def test_input_and_target_are_made_of_the_parts():
    bounds = ((0.0, -1.0), (10.0, 11.0))
    arrays = make_arrays(Simulator(coordinate_bounds=bounds), raw())
    assert set(arrays) == {"x", "y", "pos", "modulus"}
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    scaled = (raw()["pos"] - bounds[0]) / [10.0, 12.0]
    np.testing.assert_array_equal(
        arrays["x"], np.column_stack([scaled, np.full(SIZE, 5.0)]).astype(np.float32)
    )
    expected = np.column_stack([np.arange(SIZE), np.ones((SIZE, 2))])
    np.testing.assert_array_equal(arrays["y"], expected)
    # Without bounds the coordinates are left as they are.
    plain = make_arrays(Simulator(), raw())
    np.testing.assert_array_equal(plain["x"][:, :2], raw()["pos"])


def test_what_may_come_with_it():
    more = {
        "normal": np.zeros((SIZE, 2)),
        "area": np.ones(SIZE),
        "cells": np.array([[0, 1, 2]], dtype=np.int32),
        "edge_index": np.zeros((2, 0), dtype=np.int64),
        "grid": np.array([2, 3]),
    }
    arrays = make_arrays(Simulator(), raw(**more))
    assert set(arrays) == {"x", "y", "pos", "modulus", *more}
    for name in ("cells", "edge_index", "grid"):
        assert arrays[name].dtype == np.int64
        np.testing.assert_array_equal(arrays[name], more[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stress": None}, "'stress' is missing among 'flow', 'modulus', 'pos'"),
        ({"pos": None, "modulus": None}, "'modulus', 'pos' is missing"),
        ({"velocity": np.ones(SIZE)}, "'velocity' is neither a field nor a feature"),
        ({"y": np.ones(SIZE)}, "'y' is neither .* x, y and u are made by the data set"),
        ({"stress": [0.0] * SIZE}, "'stress' must be a numeric array, got list"),
        ({"stress": np.full(SIZE, "a")}, "a numeric array, got an array of <U1"),
        ({"stress": np.full(SIZE, None)}, "a numeric array, got an array of object"),
        ({"stress": np.full(SIZE, np.nan)}, "'stress' has values that are not finite"),
        ({"modulus": np.full(SIZE, np.inf)}, "'modulus' has values .* not finite"),
        ({"stress": np.ones(5)}, r"'stress' must be of shape \(6, 1\), got \(5,\)"),
        ({"stress": np.ones((SIZE, 2))}, r"'stress' .* \(6, 1\), got \(6, 2\)"),
        ({"flow": np.ones(SIZE)}, r"'flow' must be of shape \(6, 2\), got \(6,\)"),
        ({"flow": np.ones((2, SIZE))}, r"'flow' must be of shape \(6, 2\), got \(2, 6"),
        ({"pos": np.ones(SIZE)}, r"'pos' must be of shape \[N, 2\] or \[N, 3\]"),
        ({"pos": np.ones((SIZE, 4))}, r"'pos' must be of shape .* got \(6, 4\)"),
        ({"pos": np.ones((SIZE, 3))}, "but 'pos' has 3 dimensions"),
        ({"normal": np.ones((SIZE, 3))}, r"'normal' must be of shape \(6, 2\)"),
        ({"area": np.ones((SIZE, 1))}, r"'area' must be of shape \(6,\)"),
        ({"cells": np.array([[0, 6]])}, "'cells' names points from 0 to 6, .* are 6"),
        ({"cells": np.array([[-1, 0]])}, "'cells' names points from -1 to 0"),
        ({"cells": np.ones((1, 2))}, "'cells' must be an array of integers"),
        ({"cells": np.array([0, 1])}, r"'cells' must be of shape \[K, V\]"),
        ({"edge_index": np.array([[0, 1]])}, r"'edge_index' must be .* \[2, E\]"),
        ({"grid": np.array([2, 4])}, r"'grid' is \[2, 4\], expected \(H, W\)"),
        ({"grid": np.array([-2, -3])}, r"'grid' is \[-2, -3\]"),
        ({"grid": np.array([6])}, r"'grid' is \[6\]"),
    ],
)
def test_what_a_simulator_may_not_return(change, message):
    simulator = Simulator(coordinate_bounds=((0.0, 0.0), (1.0, 1.0)))
    with pytest.raises(ValueError, match=message):
        make_arrays(simulator, raw(**change))


def test_a_simulator_that_returns_no_arrays():
    with pytest.raises(ValueError, match="must return arrays by name, got NoneType"):
        make_arrays(Simulator(), None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": None}, "lacks y, and holds"),
        ({"x": None, "pos": None}, "lacks x, pos, and holds"),
        ({"y": np.ones((SIZE, 2), np.float32)}, r"y has the shape \(6, 2\), expected"),
        ({"y": np.ones(SIZE, np.float32)}, r"y has the shape \(6,\), expected"),
        (
            {"x": np.ones((5, 3), np.float32)},
            r"x has the shape \(5, 3\), expected \(6,",
        ),
        ({"y": np.full((SIZE, 3), np.nan)}, "y has values that are not finite"),
        ({"x": np.full((SIZE, 3), "a")}, "not real numbers"),
        ({"x": np.full((SIZE, 3), None)}, "not real numbers"),
    ],
)
def test_files_that_hold_no_sample(tmp_path, change, message):
    arrays = make_arrays(Simulator(), raw()) | change
    arrays = {name: array for name, array in arrays.items() if array is not None}
    path = tmp_path / "000000.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=rf"000000\.npz' is damaged: .*{message}"):
        read_sample(path, Simulator().fields)


@dataclass
class Conditioned(Simulator):
    conditions: tuple = (Field("speed", 1, "m/s"), Field("wind", 2, "m/s"))


def test_conditions_become_u(tmp_path):
    given = {"speed": np.array(40.0), "wind": np.array([1.0, -2.0])}
    arrays = make_arrays(Conditioned(), raw(**given))
    assert set(arrays) == {"x", "y", "u", "pos", "modulus"}
    assert arrays["u"].tolist() == [[40.0, 1.0, -2.0]]
    assert arrays["u"].dtype == np.float32
    path = tmp_path / "000000.npz"
    np.savez(path, **arrays)
    simulator = Conditioned()
    data = read_sample(path, simulator.fields, simulator.conditions)
    assert data.u.tolist() == [[40.0, 1.0, -2.0]]
    assert data.x.size(1) == 3 and "speed" not in data
    np.savez(path, **{**arrays, "u": arrays["u"][:, :2]})
    with pytest.raises(ValueError, match=r"u has the shape \(1, 2\).*\(1, 3\)"):
        read_sample(path, simulator.fields, simulator.conditions)
    del arrays["u"]
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="lacks u"):
        read_sample(path, simulator.fields, simulator.conditions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wind": None}, "'wind' is missing"),
        ({"wind": np.ones(3)}, r"'wind' .*\(2,\), got \(3,\)"),
        ({"wind": np.ones((1, 2))}, r"'wind' .*\(2,\), got \(1, 2\)"),
        ({"speed": np.array(np.nan)}, "'speed' has values that are not finite"),
        ({"speed": 40.0}, "'speed' must be a numeric array, got float"),
    ],
)
def test_wrong_conditions(change, message):
    given = {"speed": np.array([40.0]), "wind": np.ones(2), **change}
    with pytest.raises(ValueError, match=message):
        make_arrays(Conditioned(), raw(**given))
