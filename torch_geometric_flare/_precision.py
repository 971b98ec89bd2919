"""Which numbers single precision holds well enough."""

from typing import Any

import numpy as np
import numpy.typing as npt

# Rounding may move a number by this share of what the numbers span.
_LARGEST_SHIFT = 2.0**-20
LARGEST_OFFSET = 100.0
"""Ratio of mean to deviation beyond which a relative error says little."""

# The same number everywhere spans nothing: up to here, single precision will do.
_LARGEST_CONSTANT = 2.0**16


def narrow(values: Any) -> npt.NDArray[Any]:
    """Return numbers in single precision, unless that would merge or move them.

    Coordinates in a national grid and time stamps keep their double precision: what
    tells them apart lies in their last digits.

    Args:
        values: An array of real numbers, whose columns are of one unit.
    """
    values = np.asarray(values)
    if values.dtype in (np.float32, np.float16) or values.size == 0:
        return np.asarray(values, np.float32)
    double: npt.NDArray[Any] = values.astype(np.float64)
    with np.errstate(all="ignore"):
        single: npt.NDArray[Any] = double.astype(np.float32)
        shift = np.abs(single - double).max()
        span = np.ptp(double.reshape(len(double), -1), axis=0).max()
    if span == 0:
        keep = shift > 0 and np.abs(double).max() >= _LARGEST_CONSTANT
    else:
        keep = shift > _LARGEST_SHIFT * span
    return double if keep else single
