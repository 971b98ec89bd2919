"""The relative errors that training minimises and reports."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.fields import Fields, channel_slices
from torch_geometric_flare.metrics import (
    relative_l2_of_derivatives,
    relative_l2_per_field,
)


def errors_per_field(
    prediction: Tensor, data: Data, fields: Fields
) -> dict[str, Tensor]:
    """Return the relative error of each field and sample.

    Args:
        prediction: The decoded fields side by side.
        data: The sample or batch with the true fields as `y`, and `group` where other
            processes hold other points of it.
        fields: What the columns of both are.

    Shapes:
        - `prediction`: $[N, C]$

    Returns:
        Errors by the field's name, $[B]$ each.

    Raises:
        ValueError: If `data` has no `y`, or of another shape than `prediction`.
    """
    if "y" not in data:
        raise ValueError(
            f"the data has no true field y, only {sorted(data.keys())}: add it in the "
            "dataset or by a transform"
        )
    graphs = data.get("batch"), data.num_graphs if "batch" in data else 1
    return relative_l2_per_field(
        prediction, data.y, fields, *graphs, group=data.get("group")
    )


def mean_over_fields(errors: Mapping[str, Tensor]) -> Tensor:
    """Return the mean of one error per field, for each sample, $[B]$."""
    return torch.stack(list(errors.values())).mean(0)


def derivative_errors(prediction: Tensor, data: Data, fields: Fields) -> Tensor:
    """Return the relative errors of both derivatives of each sample, $[B, 2]$.

    With several fields it is their mean over the fields.

    Args:
        prediction: The decoded fields side by side.
        data: The sample or batch with the true fields as `y`, and `grid`, the same for
            all samples.
        fields: What the columns of both are.

    Shapes:
        - `prediction`: $[N, C]$

    Raises:
        ValueError: If the samples have no grid or different ones, or their points are
            spread over processes.
    """
    if data.get("group") is not None:
        raise ValueError(
            "derivatives need whole grids, but the points of a sample are spread over "
            "processes: set derivative_weight=0, or train without that strategy"
        )
    grid = _common_grid(data.get("grid"))
    errors = [
        relative_l2_of_derivatives(
            prediction[:, columns], data.y[:, columns], grid, data.get("batch")
        )
        for columns in channel_slices(fields).values()
    ]
    return torch.stack(errors).mean(0)


def _common_grid(grid: Any) -> tuple[int, int]:
    """Return the grid of a sample, (H, W), or the one of all samples of a batch."""
    grids = set(map(tuple, grid)) if isinstance(grid, list) else {grid}
    if len(grids) != 1 or None in grids:
        raise ValueError(
            f"derivatives need samples on one grid (H, W), got grid={grid}: set "
            "derivative_weight=0 in the recipe for others"
        )
    height, width = grids.pop()
    return height, width
