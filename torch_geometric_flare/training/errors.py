"""The relative errors that training minimises and reports."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.fields import Fields
from torch_geometric_flare.metrics import relative_l2_per_field


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
