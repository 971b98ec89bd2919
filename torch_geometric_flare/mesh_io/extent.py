"""Check whether a mesh lies in the training box of a surrogate."""

import torch
from torch import Tensor

_UNITS = {"millimeters": 1e-3, "centimeters": 1e-2, "inches": 0.0254, "feet": 0.3048}
# A mesh may exceed the training box by half its size on each side, and its largest
# extent must be more than this share of the box.
_MARGIN, _LEAST = 0.5, 0.3
_ROUNDING = 1e-6


def check_extent(pos: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Refuse points that are far from the training box of a surrogate.

    Args:
        pos: Points in the unit of the training data.
        lower: Lower corner of the box.
        upper: Upper corner of the box.

    Shapes:
        - `pos`: $(N, D)$
        - `lower`, `upper`: $(D)$

    Returns:
        Whether each point lies inside the box, $(N)$.

    Raises:
        ValueError: If the points are too far outside, or much smaller than the box. The
            message gives both extents and suggests a unit of length.
    """
    size = upper - lower
    low, high = pos.amin(0), pos.amax(0)
    near = (low - lower) / size > -_MARGIN
    near &= (high - lower) / size < 1 + _MARGIN
    if near.all() and ((high - low) / size).max() > _LEAST:
        return inside_box(pos, lower, upper)
    ratio = float(size.max() / (high - low).max())
    hints = [
        f"scale={factor} if the mesh is in {unit}"
        for unit, factor in _UNITS.items()
        if 0.5 < ratio / factor < 2
    ]
    raise ValueError(
        f"the mesh extends over {describe_box(low, high)}, but the model was trained "
        f"on {describe_box(lower, upper)}. "
        f"Give {' or '.join(hints) or 'scale=FACTOR for other units of length'}, "
        "or move and turn the mesh to stand as those of the training do"
    )


def inside_box(pos: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return whether each of points [N, D] lies in a box, [D] and [D]."""
    # The corners of a single-precision box may lie slightly outside it.
    size = upper - lower
    margin = _ROUNDING * torch.maximum(lower.abs(), upper.abs()).maximum(size)
    return ((pos >= lower - margin) & (pos <= upper + margin)).all(dim=1)


def describe_box(lower: Tensor, upper: Tensor) -> str:
    """Return a box as intervals."""
    names = "xyz"[: len(lower)]
    pairs = zip(names, lower.tolist(), upper.tolist(), strict=True)
    return ", ".join(f"{axis} [{low:.4g}, {high:.4g}]" for axis, low, high in pairs)
