"""Base classes of attention that needs all points of a graph at once."""

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional import PointBatch
from torch_geometric_flare.nn.checks import check_heads, check_points, check_positive
from torch_geometric_flare.nn.dense.residual_mlp import reset_linear
from torch_geometric_flare.nn.initialization import Init, check_init, reset_scoring
from torch_geometric_flare.nn.layout import Batch, point_layout


class FullAttention(nn.Module):
    """Base class of attention whose points do not interact through a mergeable state.

    It has no `chunk_size`, no `group` and no `encode`. A subclass sets `channels` and
    defines `mix_rows`.
    """

    channels: int

    def mix_rows(self, x: Tensor, layout: PointBatch) -> Tensor:
        """Mix the points of each graph.

        Args:
            x: Features, in the order of the layout.
            layout: The graphs.

        Shapes:
            - `x`: $[N, C]$

        Returns:
            $[N, C]$
        """
        raise NotImplementedError

    def check_sizes(self, layout: PointBatch) -> None:
        """Raise `ValueError` if this module does not support graphs of these sizes."""

    def forward(
        self,
        x: Tensor,
        batch: Batch = None,
        batch_size: int | None = None,
        *,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Mix the points of each graph.

        Args:
            x: Features of the points.
            batch: Graph of each point, sorted; `None` for a single graph. If it is a
                `PointBatch`, the rows of `x` are in its order.
            batch_size: Number of graphs. Pass it if trailing graphs may be empty.
            weight: Weight of each point, such as its share of a surface.

        Shapes:
            - `x`: $[N, C]$
            - `batch`, `weight`: $[N]$

        Returns:
            $[N, C]$

        Raises:
            ValueError: If the width of `x` is not `channels`, `batch` is unsorted, of
                another length or out of range, or a graph has an unsupported size.
        """
        check_points(x, self.channels)
        layout = point_layout(self, x, batch, batch_size, weight=weight)
        self.check_sizes(layout)
        if layout is batch:
            return self.mix_rows(x, layout)
        return layout.unsort(self.mix_rows(layout.sort(x), layout))


class EqualSizeAttention(FullAttention):
    """Base class of full attention that processes graphs of equal size together.

    Consecutive graphs of equal size share a call of `attend`, so no graph depends on
    the rest of the batch.

    Args:
        channels: Width $C$ of input and output.
        heads: Number of attention heads, each of width $D = C / H$.
        num_maps: Number of linear maps of the points for `attend`.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.

    Raises:
        ValueError: If a size is not positive, or `heads` does not divide `channels`.
    """

    def __init__(
        self, channels: int, heads: int, num_maps: int, init: Init = "scaled"
    ) -> None:
        super().__init__()
        check_positive(channels=channels, heads=heads)
        check_heads(channels, heads, "channels")
        self.channels = channels
        self.heads = heads
        self.init = check_init(init)
        self.num_maps = num_maps
        self.maps = nn.Linear(channels, num_maps * channels)
        self.out = nn.Linear(channels, channels)

    def reset_parameters(self) -> None:
        """Reset parameters."""
        reset_linear(self.maps)
        if self.init == "scaled":
            reset_scoring(self.maps)
        reset_linear(self.out)

    def attend(self, maps: Tensor) -> Tensor:
        """Mix the points of graphs of equal size.

        Args:
            maps: The linear maps of the points.

        Shapes:
            - `maps`: $[K, B, H, N, D]$ for $K$ maps of $B$ graphs of $N$ points

        Returns:
            $[B, H, N, D]$
        """
        raise NotImplementedError

    def mix_rows(self, x: Tensor, layout: PointBatch) -> Tensor:
        """Mix the points of each graph, see `FullAttention`."""
        if layout.weight is not None:
            raise ValueError(
                f"weight is given, but {type(self).__name__} does not support it: pass "
                "None, or use SoftmaxAttention or a PointMixer such as FLAREConv"
            )
        width = self.channels // self.heads
        rows = self.maps(x).reshape(x.size(0), self.num_maps, self.heads, width)
        runs: list[list[int]] = []  # consecutive graphs of equal size
        for graph in layout.sequence:
            size = layout.sizes[graph]
            if runs and runs[-1][1] == size:
                runs[-1][0] += 1
            else:
                runs.append([1, size])
        parts = rows.split([graphs * size for graphs, size in runs]) if runs else ()
        # A process without points must participate in backward too.
        mixed = [] if runs else [rows.sum(1)]
        for part, (graphs, size) in zip(parts, runs, strict=True):
            maps = part.unflatten(0, (graphs, size)).permute(2, 0, 3, 1, 4)
            mixed.append(self.attend(maps).transpose(1, 2).flatten(0, 1))
        y: Tensor = self.out(torch.cat(mixed).flatten(-2))
        return y
