"""The relative error of each field."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import Tensor

from torch_geometric_flare.fields import Field, channel_slices
from torch_geometric_flare.metrics.relative_l2 import relative_l2

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def relative_l2_per_field(
    pred: Tensor,
    target: Tensor,
    fields: Iterable[Field],
    batch: Tensor | None = None,
    batch_size: int | None = None,
    group: "ProcessGroup | None" = None,
) -> dict[str, Tensor]:
    """Return the relative error of each graph, field by field."""
    slices = channel_slices(fields)
    if pred.shape != target.shape or pred.dim() != 2:
        raise ValueError(
            f"pred has shape {tuple(pred.shape)} and target {tuple(target.shape)}: "
            "they must agree, [N, C]"
        )
    return {
        name: relative_l2(
            pred[:, columns], target[:, columns], batch, batch_size, group
        )
        for name, columns in slices.items()
    }
