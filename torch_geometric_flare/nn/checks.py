"""Validation of user arguments, shared by all modules."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric import is_debug_enabled

from torch_geometric_flare.functional.checks import check_strided

# Arguments that may be None, and what that means.
_OPTIONAL = {"chunk_size": " or None for all points at once"}


def is_positive(value: Any) -> bool:
    """Return whether `value` is a positive integer and not a bool."""
    whole = not isinstance(value, bool) and isinstance(value, Integral)
    return whole and int(value) >= 1


def check_positive(**values: int | None) -> None:
    """Raise `ValueError` naming the first of `values` that is not a positive integer.

    A `chunk_size` may be `None`.
    """
    for name, value in values.items():
        if not is_positive(value) and not (value is None and name in _OPTIONAL):
            raise ValueError(
                f"{name} is {value!r}, expected a positive integer"
                f"{_OPTIONAL.get(name, '')}"
            )


def check_input_channels(value: Any) -> None:
    """Raise `ValueError` unless `value` is a positive integer, or -1 for lazy."""
    if not is_positive(value) and not (type(value) is int and value == -1):
        raise ValueError(
            f"in_channels is {value!r}, expected a positive integer, or -1 for the "
            "width of the first input"
        )


def check_heads(channels: int, heads: int, name: str = "hidden_channels") -> int:
    """Return the width of a head.

    Args:
        channels: Width of all heads together.
        heads: Number of heads.
        name: Name of `channels` in the caller.

    Raises:
        ValueError: If `heads` does not divide `channels`.
    """
    if channels % heads:
        raise ValueError(
            f"{name} is {channels}, which is not divisible by heads={heads}: change "
            "one of them, or pass head_channels if it is an argument"
        )
    return channels // heads


def check_grid(grid: Sequence[int], name: str = "grid") -> tuple[int, int]:
    """Return rows and columns; raise `ValueError` unless they are two sizes."""
    pair = isinstance(grid, Sequence) and len(grid) == 2
    if not pair or not all(map(is_positive, grid)):
        raise ValueError(
            f"{name} is {grid!r}, expected two positive integers, rows and columns"
        )
    rows, columns = grid
    return rows, columns


def check_layers(**values: Any) -> None:
    """Raise `ValueError` unless all values are integers from -1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < -1:
            raise ValueError(f"{name} is {value!r}, expected an integer from -1")


def check_count(**values: Any) -> None:
    """Raise `ValueError` unless all values are integers from 0."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 0:
            raise ValueError(f"{name} is {value!r}, expected an integer from 0")


def check_length(**values: Any) -> None:
    """Raise `ValueError` unless all values are positive numbers."""
    for name, value in values.items():
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not number or not 0 < float(value) < math.inf:
            raise ValueError(
                f"{name} is {value!r}, expected a positive length in the unit of the "
                "coordinates"
            )


def check_edges(
    edge_index: Tensor, channels: int | None = None, **features: Tensor | None
) -> None:
    """Raise `ValueError` unless edges and their features fit together.

    Args:
        edge_index: Edges.
        channels: Expected width of the features; `None` for one number per edge.
        **features: Features of the edges, by their name in the caller.

    Shapes:
        - `edge_index`: $[2, E]$, `torch.long`
        - each feature: $[E, C]$ or $[E]$
    """
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ValueError(
            f"edge_index has shape {tuple(edge_index.shape)}, expected [2, E]: the "
            "source and the target of each edge"
        )
    if edge_index.dtype != torch.long:
        raise ValueError(
            f"edge_index is {edge_index.dtype}, expected row indices as torch.long"
        )
    size = edge_index.size(1)
    expected = (size,) if channels is None else (size, channels)
    for name, value in features.items():
        if value is not None and value.shape != expected:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}, expected {expected}: one row "
                f"for each of the {size} edges"
            )


def check_no_edges(module: nn.Module, batch: Tensor) -> None:
    """Raise `ValueError` if edges are passed as `batch`.

    Args:
        module: The module that is called.
        batch: The argument. Edge indices and adjacency matrices are rejected.
    """
    if getattr(batch, "ndim", 0) != 2 or not isinstance(batch, Tensor):
        return
    is_index = batch.size(0) == 2 and not batch.is_floating_point()
    if is_index or batch.layout != torch.strided:
        name = type(module).__name__
        raise ValueError(
            f"{name} takes no edge_index, but batch has shape {tuple(batch.shape)}: "
            "every point attends to all points of its graph. Pass the graph index of "
            "each point, as in model(data.x, data.batch), or nothing for a single graph"
        )


def check_condition_channels(channels: Any) -> int:
    """Return the number of conditions; raise `ValueError` unless it is 0 or more."""
    if isinstance(channels, bool) or not isinstance(channels, Integral) or channels < 0:
        raise ValueError(
            f"condition_channels is {channels!r}, expected the number of conditions "
            "of a graph, 0 for none"
        )
    return int(channels)


def check_condition_octaves(octaves: Any, channels: int) -> int:
    """Return the octaves; raise `ValueError` if there are no conditions for them.

    Args:
        octaves: Octaves of sines and cosines of each condition.
        channels: Number of conditions.
    """
    check_count(condition_octaves=octaves)
    if octaves and not channels:
        raise ValueError(
            f"condition_octaves is {octaves}, but condition_channels is 0: give the "
            "number of conditions of a graph"
        )
    return int(octaves)


def check_conditions(module: nn.Module, u: Tensor | None) -> None:
    """Raise `ValueError` unless `u` matches the conditions of a module.

    Args:
        module: The module; its `condition_channels` is zero if it has none.
        u: Conditions of each graph; `None` for none.

    Shapes:
        - `u`: $[B, G]$
    """
    name, channels = type(module).__name__, getattr(module, "condition_channels", 0)
    if u is None and channels:
        raise ValueError(
            f"u is None, but {name} was built with condition_channels={channels}: pass "
            f"u of shape [B, {channels}], one row of conditions per graph"
        )
    if u is None or (u.dim() == 2 and u.size(1) == channels > 0):
        return
    if channels == 0:
        raise ValueError(
            f"u has shape {tuple(u.shape)}, but {name} has no conditions: leave u out, "
            "or build a network such as FLARE with condition_channels="
            f"{u.size(-1) if u.dim() else 1}"
        )
    raise ValueError(
        f"u has shape {tuple(u.shape)}, but {name} was built with "
        f"condition_channels={channels}: pass [B, {channels}], one row per graph"
    )


def check_double(module: nn.Module) -> None:
    """Raise `ValueError` if points are in double precision and weights are not.

    Args:
        module: The module that is called with `torch.float64` points.
    """
    for weight in module.parameters():
        if weight.dtype == torch.float32:
            raise ValueError(
                f"x is torch.float64, but the weights of {type(module).__name__} are "
                "torch.float32: pass x.float(), or call .double() on the module"
            )
        return  # torch.compile of PyTorch 2.8 cannot trace next(..., None)


def check_points(
    x: Tensor, channels: int, name: str = "x", num_points: int | None = None
) -> None:
    """Raise `ValueError` unless `x` is $[N, C]$, and finite in PyG's debug mode.

    Args:
        x: Points.
        channels: Expected width.
        name: Name of `x` in the caller.
        num_points: Expected number of points $N$; `None` for any.
    """
    check_strided(**{name: x})
    if x is None:
        raise TypeError(
            f"{name} is None, expected a torch.Tensor of shape [N, {channels}]"
        )
    if x.dim() != 2 or x.size(-1) != channels:
        remedy = "concatenate the points of several graphs and pass `batch`"
        if x.dim() == 2:
            remedy = f"the module was built for {channels} channels, not {x.size(-1)}"
        raise ValueError(
            f"{name} has shape {tuple(x.shape)}, expected [N, {channels}]: {remedy}"
        )
    if num_points not in (None, x.size(0)):
        raise ValueError(
            f"{name} has {x.size(0)} rows, expected {num_points}: one per point"
        )
    # This check synchronizes with the device, so it runs only in debug mode.
    if is_debug_enabled() and not bool(torch.isfinite(x).all()):
        raise ValueError(
            f"{name} holds {int((~torch.isfinite(x)).sum())} values that are not "
            "finite: check the data and its normalization"
        )
