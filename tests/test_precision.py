import numpy as np
import pytest

from torch_geometric_flare._precision import narrow

GRID = np.array([448251.37, 5411932.81, 120.0])
BODY = np.random.default_rng(0).uniform(0, 5, (50, 3))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (BODY, np.float32),
        (BODY + [0, 0, 2], np.float32),
        (1000 * BODY, np.float32),
        (BODY + GRID, np.float64),
        (1e-9 * BODY, np.float32),
        (1e30 * BODY, np.float32),
        (1e60 * BODY, np.float64),  # infinite in single precision
        (1.7e9 + np.arange(10.0), np.float64),
        (1_700_000_000 + np.arange(10), np.float64),
        (np.arange(10), np.float32),
        (np.full(5, 38.889), np.float32),
        (np.full(5, 1.7e9 + 1), np.float64),
        (np.full(5, 2.0**40), np.float32),  # exact
        ((BODY + GRID).astype(np.float32), np.float32),  # nothing is left to keep
        (np.empty((0, 3)), np.float32),
    ],
)
def test_only_what_needs_it_stays_in_double_precision(values, dtype):
    found = narrow(values)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.asarray(values).astype(dtype))
