"""Text that says which values of a sample are not finite."""

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch_geometric.data import Data

TARGETS = ("y", "query_y")
"""Names of the arrays of a sample that are not inputs."""


def describe_gaps(values: npt.NDArray[Any], name: str = "") -> str:
    r"""Return how many values are not finite, and where the first is; empty if all are.

    Args:
        values: Numbers with one row for each point.
        name: Name of the array, for the text.
    """
    finite = np.isfinite(values)
    if finite.all():
        return ""
    first = int(np.argwhere(~finite)[0, 0])
    of = f" of {name!r}" if name else ""
    return f"{count_gaps(finite)}{of}, the first at point {first}"


def count_gaps(finite: npt.NDArray[np.bool_], what: str = "values") -> str:
    """Return how many things are not finite.

    Args:
        finite: Whether each is.
        what: Their name in the plural.
    """
    gaps = finite.size - np.count_nonzero(finite)
    return f"{what} that are not finite: {gaps:,} of {finite.size:,}"


def find_gaps(data: Data, ignore: Collection[str] = ()) -> str:
    """Return which arrays of a sample or batch are not finite; empty if all are.

    Args:
        data: The sample or batch.
        ignore: Names of arrays that do not count.
    """
    parts = []
    for name, value in data.to_dict().items():
        if name in ignore or not isinstance(value, Tensor) or not value.dim():
            continue
        if value.is_floating_point() and not bool(value.isfinite().all()):
            values = value.detach().double().cpu().numpy()
            parts.append(f"{name} has {describe_gaps(values)}")
    return "; ".join(parts)
