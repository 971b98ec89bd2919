"""The network that surrogates of this package are: lift, blocks, norm, head."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional import PointBatch
from torch_geometric_flare.nn.autocast import outside_autocast
from torch_geometric_flare.nn.checks import check_double, check_points
from torch_geometric_flare.nn.chunked import in_chunks, map_points, run_in_chunks
from torch_geometric_flare.nn.initialization import Init, reset_carrying
from torch_geometric_flare.nn.layout import Batch, point_layout
from torch_geometric_flare.nn.padded import forward_padded, refuse_script

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Backbone(nn.Module):
    r"""Base class of networks whose points see each other through states that merge.

    $$x \leftarrow \mathrm{lift}(x), \qquad x \leftarrow \mathrm{block}_i(x), \qquad
      y = \mathrm{head}(\mathrm{norm}(x))$$

    It runs on all points at once, in chunks of `chunk_size` points, on points that are
    spread over the processes of a `group`, and from file to file by `predict_stream`.
    A subclass sets

    - `in_channels`, `hidden_channels`, `out_channels` and `chunk_size`;
    - `init`, how parameters start, see `nn.initialization`; `"paper"` by default;
    - `lift`, `norm` and `head`: modules that act on each point by itself;
    - `blocks`: modules called as `block(x, layout, group)` that are also a
      `nn.stage.Stage`, such as `ResidualBlock` around a `PointMixer`. A network that
      encodes and decodes once has one block, whose `process` is the rest.
    """

    in_channels: int
    hidden_channels: int
    out_channels: int
    chunk_size: int | None
    init: Init = "paper"
    lift: nn.Module
    blocks: nn.ModuleList
    norm: nn.Module
    head: nn.Module

    __prepare_scriptable__ = refuse_script  # torch.jit.script asks for it

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        modules: Any = (self.lift, *self.blocks, self.norm, self.head)
        for module in modules:
            module.reset_parameters()
        self._reset_lift()

    def _reset_lift(self) -> None:
        """Let the lift keep the size of the input; a constructor ends with this."""
        if self.init == "scaled":
            reset_carrying(self.lift)

    def input_rows(self, x: Tensor, layout: PointBatch) -> Tensor:
        """Return what `lift` takes of each point: `x`, unless a subclass adds to it.

        Only here does a model that is bound to a grid know the place of each row.

        Args:
            x: Features of all points, in the order that the caller has them in.
            layout: The graphs.
        """
        return x

    def forward(
        self,
        x: Tensor,
        batch: Batch = None,
        batch_size: int | None = None,
        group: "ProcessGroup | None" = None,
    ) -> Tensor:
        r"""Predict the fields at every point.

        Args:
            x: Features of the points, normalised coordinates included.
            batch: Graph of each point, sorted; `None` for a single graph. A
                `PointBatch` says that the rows of `x` are in its order. Of padded
                graphs, a mask that is true where a point is real.
            batch_size: Number of graphs, where trailing ones may be empty.
            group: Processes that hold the other points of these graphs; each passes
                its own points, perhaps none, and gets the fields there. `None` if all
                points are here.

        Shapes:
            - `x`: $[N, C_\text{in}]$, padded $[B, N, C_\text{in}]$
            - `batch`: $[N]$, padded $[B, N]$

        Returns:
            $[N, C_\text{out}]$, padded $[B, N, C_\text{out}]$ with zeros. Points of
            one graph never depend on another graph.

        Raises:
            ValueError: If the width of `x` is not `in_channels`, or `batch` is
                unsorted, of another length, or out of range, or the processes of
                `group` disagree on the number of graphs, or differ in their
                configuration or weights.
            RuntimeError: If a process of `group` is lost.
        """
        if getattr(x, "ndim", 2) == 3 or getattr(batch, "dtype", None) == torch.bool:
            return forward_padded(self, x, batch, batch_size, group)
        if torch.is_autocast_enabled("cpu"):
            y = outside_autocast(
                self,
                all(getattr(b, "supports_cpu_kernels", False) for b in self.blocks),
                lambda: Backbone.forward(self, x, batch, batch_size, group),
                x,
            )
            if y is not None:
                return y
        check_points(x, self.in_channels)
        if x.dtype == torch.float64:
            check_double(self)
        layout = point_layout(self, x, batch, batch_size, group)
        x = self.input_rows(x, layout)
        if self.chunk_size is not None and in_chunks(self.chunk_size):
            size = self.chunk_size
            x = layout.unsort(x) if layout is batch else x
            x = map_points(self.lift, x, size)
            for block in self.blocks:
                x = run_in_chunks(block, x, layout, size, group)
            y = map_points(nn.Sequential(self.norm, self.head), x, size)
            return layout.sort(y) if layout is batch else y
        x = self.lift(x if layout is batch else layout.sort(x))
        for block in self.blocks:
            x = block(x, layout, group)
        y = self.head(self.norm(x))
        return y if layout is batch else layout.unsort(y)
