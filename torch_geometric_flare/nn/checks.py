"""User errors that every module reports the same way."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch_geometric import is_debug_enabled

from torch_geometric_flare.functional.checks import check_strided

# What else may be passed where the caller takes no number at all.
_OTHERWISE = {"chunk_size": " or None for all points at once"}


def is_positive(value: Any) -> bool:
    """Return whether `value` is an integer of at least one, and no bool."""
    whole = not isinstance(value, bool) and isinstance(value, Integral)
    return whole and int(value) >= 1


def check_positive(**values: int) -> None:
    """Raise `ValueError` naming the first of `values` that is no positive integer."""
    for name, value in values.items():
        if not is_positive(value):
            raise ValueError(
                f"{name} is {value!r}, expected a positive integer"
                f"{_OTHERWISE.get(name, '')}"
            )


def check_heads(hidden_channels: int, heads: int) -> None:
    """Raise `ValueError` unless `heads` divides `hidden_channels`."""
    if hidden_channels % heads:
        raise ValueError(
            f"hidden_channels is {hidden_channels}, which heads={heads} does not "
            "divide: change one of them"
        )


def check_grid(grid: Sequence[int]) -> tuple[int, int]:
    """Return rows and columns; raise `ValueError` unless they are two sizes."""
    pair = isinstance(grid, Sequence) and len(grid) == 2
    if not pair or not all(map(is_positive, grid)):
        raise ValueError(
            f"grid is {grid!r}, expected two positive integers, rows and columns"
        )
    rows, columns = grid
    return rows, columns


def check_layers(**values: int) -> None:
    """Raise `ValueError` naming the first of `values` that is below -1."""
    for name, value in values.items():
        if value < -1:
            raise ValueError(f"{name} is {value}, expected -1 or more")


def check_points(x: Tensor, channels: int, name: str = "x") -> None:
    """Raise `ValueError` unless `x` is $[N, C]$, and finite in PyG's debug mode.

    Args:
        x: Points.
        channels: The expected width.
        name: What the caller calls `x`.
    """
    check_strided(**{name: x})
    if x.dim() != 2 or x.size(-1) != channels:
        raise ValueError(
            f"{name} has shape {tuple(x.shape)}, expected [N, {channels}]; lay the "
            "points of several graphs one after another and pass `batch`"
        )
    # The check waits for the device, so it is paid for in debug mode alone.
    if is_debug_enabled() and not bool(torch.isfinite(x).all()):
        raise ValueError(
            f"{name} holds {int((~torch.isfinite(x)).sum())} values that are NaN or "
            "infinite: check the data and its normalisation"
        )
