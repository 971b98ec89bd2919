"""What mixers that need whole graphs share: maps of points, one call per graph size."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional import PointBatch
from torch_geometric_flare.nn.checks import check_points, check_positive
from torch_geometric_flare.nn.dense.residual_mlp import reset_linear
from torch_geometric_flare.nn.initialization import Init, check_init, reset_scoring
from torch_geometric_flare.nn.layout import Batch, point_layout

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class WholeAttention(nn.Module):
    """Base class of attention that computes on whole graphs, without padding.

    Graphs that follow one another and have one size share a call of `attend`, so no
    graph can depend on its batch-mates.

    Args:
        channels: Width $C$ of input and output.
        heads: Attention heads, each of width $D = C / H$.
        num_maps: Linear maps of the points that `attend` takes.
        init: How parameters start, see `nn.initialization`: `"scaled"`, or `"paper"` as
            published.

    Raises:
        ValueError: If a size is not positive, or `heads` does not divide `channels`.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        num_maps: int,
        init: Init = "scaled",
    ) -> None:
        super().__init__()
        check_positive(channels=channels, heads=heads)
        if channels % heads:
            raise ValueError(
                f"channels is {channels}, which heads={heads} does not divide: change "
                "one of them"
            )
        self.channels = channels
        self.heads = heads
        self.init = check_init(init)
        self.num_maps = num_maps
        self.maps = nn.Linear(channels, num_maps * channels)
        self.out = nn.Linear(channels, channels)

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        reset_linear(self.maps)
        if self.init == "scaled":
            reset_scoring(self.maps)
        reset_linear(self.out)

    def attend(self, maps: Tensor) -> Tensor:
        """Mix the points of graphs of one size.

        Args:
            maps: The linear maps of the points.

        Shapes:
            - `maps`: $[K, B, H, N, D]$ for $K$ maps of $B$ graphs of $N$ points

        Returns:
            $[B, H, N, D]$
        """
        raise NotImplementedError

    def check_sizes(self, layout: PointBatch) -> None:
        """Raise `ValueError` if this module cannot take graphs of these sizes."""

    def forward(
        self,
        x: Tensor,
        batch: Batch = None,
        batch_size: int | None = None,
        group: "ProcessGroup | None" = None,
    ) -> Tensor:
        """Mix the points of each graph.

        Args:
            x: Features of the points.
            batch: Graph of each point, sorted; `None` for a single graph. A
                `PointBatch` says that the rows of `x` are in its order.
            batch_size: Number of graphs, where trailing ones may be empty.
            group: `None`: all points must be here.

        Shapes:
            - `x`: $[N, C]$
            - `batch`: $[N]$

        Returns:
            $[N, C]$

        Raises:
            ValueError: If the width of `x` is not `channels`, `batch` is unsorted, of
                another length or out of range, a graph has a size that the module
                cannot take, or `group` is given.
        """
        if group is not None:
            raise ValueError(
                f"group is given, but {type(self).__name__} needs all points of a "
                "graph in one process: pass group=None"
            )
        check_points(x, self.channels)
        layout = point_layout(self, x, batch, batch_size)
        self.check_sizes(layout)
        rows = self.maps(x if layout is batch else layout.sort(x))
        width = self.channels // self.heads
        rows = rows.reshape(x.size(0), self.num_maps, self.heads, width)
        runs: list[list[int]] = []  # graphs of one size that follow one another
        for graph in layout.sequence:
            size = layout.sizes[graph]
            if runs and runs[-1][1] == size:
                runs[-1][0] += 1
            else:
                runs.append([1, size])
        parts = rows.split([graphs * size for graphs, size in runs]) if runs else ()
        # What has no points takes part in backward all the same.
        found = [] if runs else [rows.sum(1)]
        for part, (graphs, size) in zip(parts, runs, strict=True):
            maps = part.unflatten(0, (graphs, size)).permute(2, 0, 3, 1, 4)
            found.append(self.attend(maps).transpose(1, 2).flatten(0, 1))
        y: Tensor = self.out(torch.cat(found).flatten(-2))
        return y if layout is batch else layout.unsort(y)
