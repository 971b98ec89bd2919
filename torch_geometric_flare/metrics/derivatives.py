"""The relative error of the derivatives of a field on a grid."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from torch_geometric_flare.functional.point_batch import check_batch
from torch_geometric_flare.metrics.relative_l2 import relative_l2


def relative_l2_of_derivatives(
    pred: Tensor,
    target: Tensor,
    grid: tuple[int, int],
    batch: Tensor | None = None,
    *,
    zero_scale: Tensor | Sequence[float] | None = None,
) -> Tensor:
    r"""Return the relative $L_2$ errors of both derivatives of a field on a grid.

    Transolver ([arXiv:2402.02366](https://arxiv.org/abs/2402.02366)) and FLARE
    ([arXiv:2508.12594](https://arxiv.org/abs/2508.12594)) add 0.1 times the sum of both
    to the loss of Darcy flow, whose solution is zero on the boundary. As in their code:

    - the prediction, not the target, is set to zero on the boundary;
    - outside of the boundary, both fields are zero;
    - derivatives are central differences, at all points:
      $\partial_1 y_{ij} = (y_{i+1,j} - y_{i-1,j}) / 2h$ and
      $\partial_2 y_{ij} = (y_{i,j+1} - y_{i,j-1}) / 2h$.

    The spacing $h$ cancels in each relative error, so it is not an argument.

    Args:
        pred: Predicted field.
        target: True field, of the same shape.
        grid: Shape $(H, W)$ of the grid of each graph. Point $(i, j)$ has the index $iW
            + j$.
        batch: Graph of each point, sorted; `None` for a single graph.
        zero_scale: Scale of each channel of the field for graphs where a derivative of
            the target is zero everywhere, as in `relative_l2`; with `None`, these raise
            an error.

    Shapes:
        - `pred`, `target`: $[B H W, C]$ or $[B H W]$
        - `batch`: $[B H W]$, `torch.long`

    Returns:
        The errors of the derivatives along the first and the second axis of the grid,
        $[B, 2]$, in at least float32.

    Raises:
        ValueError: If the shapes of `pred` and `target` differ, `grid` is not a pair of
            integers, a graph does not have $H \cdot W$ points, the grid has fewer than
            3 points along an axis, or, without `zero_scale`, a derivative of the target
            is zero everywhere.
    """
    if pred.shape != target.shape or pred.dim() not in (1, 2):
        raise ValueError(
            f"pred has shape {tuple(pred.shape)} and target {tuple(target.shape)}: "
            "they must be equal, [N, C] or [N]"
        )
    if len(grid) != 2 or not all(isinstance(length, int) for length in grid):
        raise ValueError(
            f"grid is {grid!r}, expected (H, W), the same for all graphs: for a batch, "
            "pass data.grid[0]"
        )
    height, width = grid
    if min(height, width) < 3:
        raise ValueError(
            f"grid is {(height, width)}: with less than 3 points along an axis, there "
            "are no interior points"
        )
    check_batch(batch, pred.size(0))
    sizes = [pred.size(0)] if batch is None else batch.long().bincount().tolist()
    if any(size != height * width for size in sizes):
        raise ValueError(
            f"the graphs have {sizes} points, but the grid {(height, width)} has "
            f"{height * width}"
        )
    shape = (len(sizes), height, width, pred.size(1) if pred.dim() == 2 else 1)
    inside = pred.reshape(shape)[:, 1:-1, 1:-1]
    pred_derivatives = _differences(pad(inside, (0, 0, 1, 1, 1, 1)))
    target_derivatives = _differences(target.reshape(shape))
    errors = [
        relative_l2(a.flatten(0, 2), b.flatten(0, 2), batch, zero_scale=zero_scale)
        for a, b in zip(pred_derivatives, target_derivatives, strict=True)
    ]
    return torch.stack(errors, dim=1)


def _differences(field: Tensor) -> tuple[Tensor, Tensor]:
    """Return the central differences [B, H, W, C] along both axes."""
    field = pad(field, (0, 0, 1, 1, 1, 1))
    return (
        field[:, 2:, 1:-1] - field[:, :-2, 1:-1],
        field[:, 1:-1, 2:] - field[:, 1:-1, :-2],
    )
