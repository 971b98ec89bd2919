"""Subsampling of a structured grid."""

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform

from torch_geometric_flare._arguments import check_integers


class GridStride(BaseTransform):
    r"""Keep every `step`-th point along both axes of `grid`.

    Point $(i, j)$ of a grid $(H, W)$ has the index $iW + j$. All fields are subsampled,
    and `grid` becomes $(\lceil H/s \rceil, \lceil W/s \rceil)$. If $s$ divides $H - 1$
    and $W - 1$, the last row and column are kept. The input sample is not modified.

    Args:
        step: The step $s$.

    Raises:
        ValueError: If `step` is below one; when applied: if the sample is a batch, its
            `grid` is missing or does not fit its points, or it has edges or cells.
    """

    def __init__(self, step: int) -> None:
        check_integers(1, step=step)
        self.step = step

    def forward(self, data: Data) -> Data:
        """Return the sample at every `step`-th point."""
        if isinstance(data, Batch):
            raise ValueError("data is a batch: apply this before batching")
        grid, size = data.get("grid"), data.num_nodes
        if grid is None or len(grid) != 2 or grid[0] * grid[1] != size:
            raise ValueError(
                f"the sample has grid={grid!r} and {size} points: set data.grid = "
                "(H, W) with H * W points"
            )
        for name in ("cells", "edge_index"):
            if name in data:
                raise ValueError(
                    f"the sample has `{name}`, which refers to points that would be "
                    "removed: add it afterwards"
                )
        kept = torch.arange(size).view(*grid)[:: self.step, :: self.step]
        # List the names first, because the sample counts its points by these fields.
        fields = [name for name in data.node_attrs() if isinstance(data[name], Tensor)]
        for name in fields:
            data[name] = data[name][kept.flatten().to(data[name].device)]
        data.grid = tuple(kept.shape)
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.step})"
