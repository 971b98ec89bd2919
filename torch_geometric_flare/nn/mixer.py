"""The base class of operators that mix the points of each graph through a state."""

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric import is_debug_enabled

from torch_geometric_flare.functional import PointBatch, State, distributed_merge
from torch_geometric_flare.nn.autocast import outside_autocast
from torch_geometric_flare.nn.checks import check_conditions, check_double, check_points
from torch_geometric_flare.nn.layout import Batch, count_graphs, point_layout
from torch_geometric_flare.nn.padded import forward_padded, refuse_script
from torch_geometric_flare.nn.streaming.chunks import (
    decode_in_chunks,
    encode_in_chunks,
    in_chunks,
    run_in_chunks,
)
from torch_geometric_flare.nn.streaming.stage import Latents, run_whole

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Role = Literal["both", "source", "query"]
"""Whether points are sources, queries, or both."""


class PointMixer(nn.Module):
    r"""Base class of operators that mix the points of each graph through a state.

    A subclass defines how rows in the order of a layout are encoded, how the latents of
    each graph are processed, and how rows are decoded: `encode_rows`, `process` and
    `decode_rows`, see `nn.streaming.Stage`. The base class then supports batches of
    unequal graphs, computation in chunks, and points distributed over processes. All
    networks of this package can use the subclass.

    Subclasses set `chunk_size` and `in_channels`, a pair if source and query points
    differ in width. They list their parameters without weight decay in
    `no_weight_decay`.
    """

    in_channels: int | tuple[int, int]
    chunk_size: int | None
    num_encodes: int = 1
    no_weight_decay: tuple[str, ...] = ()

    __prepare_scriptable__ = refuse_script  # called by torch.jit.script

    @property
    def supports_cpu_kernels(self) -> bool:
        """Whether CPU kernels compute most of this module; may be overridden."""
        return False

    def encode_rows(
        self, x: Tensor, layout: PointBatch, latents: Latents = ()
    ) -> State:
        """Return the state of some points of each graph.

        Args:
            x: Features, in the order of the layout.
            layout: The graphs.
            latents: The result of `process` for the preceding state if `num_encodes` is
                above one; empty at first.

        Shapes:
            - `x`: $[N, C]$
        """
        raise TypeError(f"{type(self).__name__} defines no encode_rows")

    def process(self, state: Any, latents: Latents = ()) -> Latents:
        """Return the latents for decoding each graph, given the state of its points."""
        return tuple(state)

    def decode_rows(self, latents: Latents, x: Tensor, layout: PointBatch) -> Tensor:
        """Return the output at points, given the latents of their graphs.

        Args:
            latents: The result of `process`.
            x: Features, in the order of the layout.
            layout: The graphs.

        Shapes:
            - `x`: $[N, C]$

        Returns:
            $[N, C']$
        """
        raise TypeError(f"{type(self).__name__} defines no decode_rows")

    def mix_rows(
        self, x: Tensor, layout: PointBatch, group: "ProcessGroup | None"
    ) -> Tensor:
        """Encode, process and decode all points at once.

        Subclasses override this if both steps can share work.

        Args:
            x: Features, in the order of the layout.
            layout: The graphs.
            group: Process group over which the points of these graphs are distributed.

        Shapes:
            - `x`: $[N, C]$

        Returns:
            $[N, C']$
        """
        return run_whole(self, x, layout, group)

    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor],
        batch: Batch | tuple[Batch, Batch] = None,
        batch_size: int | None = None,
        group: "ProcessGroup | None" = None,
        weight: Tensor | None = None,
        u: Tensor | None = None,
    ) -> Tensor:
        """Mix the points of each graph.

        Args:
            x: Features of the points, or a pair: features of the points to encode and
                of the points to decode at.
            batch: Graph of each point, sorted; `None` for a single graph; a pair if `x`
                is a pair. If it is a `PointBatch`, the rows of `x` are in its order.
                For padded graphs, a mask that is true for real points.
            batch_size: Number of graphs. Pass it if trailing graphs may be empty.
            group: Process group over which the points of these graphs are distributed;
                each process passes its own points, possibly none, and gets the output
                at these. `None` if this process holds all points. With a group, a
                `PointBatch` must have the same number of graphs on every process.
            weight: Nonnegative weight of each point, such as its share of a surface;
                only ratios within a graph matter. `None` for equal weights. For a pair,
                the weights of the points to encode.
            u: Conditions of each graph, if the module has `condition_channels`.

        Shapes:
            - `x`: $[N, C]$ or $[N_s, C_s], [N_q, C_q]$, padded $[B, N, C]$
            - `batch`: $[N]$ or $[N_s], [N_q]$, padded $[B, N]$
            - `weight`: $[N]$ or $[N_s]$, padded $[B, N]$
            - `u`: $[B, G]$

        Returns:
            $[N, C']$ or $[N_q, C']$, padded $[B, N, C']$ with zeros. A query in a graph
            without source points gets the value of an empty sum.

        Raises:
            ValueError: If the width of `x` is not `in_channels`, `batch` is unsorted,
                of another length, out of range, or holds edges, `u` is missing or has
                another shape, or the processes of `group` disagree on the number of
                graphs, the configuration or the weights.
            RuntimeError: If a process of `group` is lost.
        """
        if torch.is_autocast_enabled("cpu"):
            y = outside_autocast(
                self,
                self.supports_cpu_kernels,
                lambda: PointMixer.forward(
                    self, x, batch, batch_size, group, weight, u
                ),
                x,
            )
            if y is not None:
                return y
        if isinstance(x, tuple):
            return self._mix_pair(x, batch, batch_size, group, weight, u)
        if getattr(x, "ndim", 2) == 3 or getattr(batch, "dtype", None) == torch.bool:
            return forward_padded(self, x, batch, batch_size, group, weight, u)
        layout = self._layout(x, batch, batch_size, group, weight=weight, u=u)
        if self.chunk_size is not None and in_chunks(self.chunk_size):
            x = layout.unsort(x) if layout is batch else x
            y = run_in_chunks(self, x, layout, self.chunk_size, group)
            return layout.sort(y) if layout is batch else y
        if layout is batch:
            return self.mix_rows(x, layout, group)
        return layout.unsort(self.mix_rows(layout.sort(x), layout, group))

    def _mix_pair(
        self,
        x: tuple[Tensor, Tensor],
        batch: Batch | tuple[Batch, Batch],
        batch_size: int | None,
        group: "ProcessGroup | None",
        weight: Tensor | None,
        u: Tensor | None,
    ) -> Tensor:
        """Encode some points and decode at others."""
        self._check_one_encode("does not support pairs: pass one set of points")
        source, query = batch if isinstance(batch, tuple) else (batch, batch)
        if batch_size is None:
            batch_size = max(
                count_graphs(self, source, x[0], group),
                count_graphs(self, query, x[1], group),
            )
        state = self.encode(x[0], source, batch_size, group, weight, u)
        latents = self.process(state, ())
        return self._decode(latents, x[1], query, batch_size, u)

    def encode(
        self,
        x: Tensor,
        batch: Batch = None,
        batch_size: int | None = None,
        group: "ProcessGroup | None" = None,
        weight: Tensor | None = None,
        u: Tensor | None = None,
    ) -> State:
        """Return the state of each graph, which is sufficient for decoding.

        Args:
            x: Features of the points.
            batch: Graph of each point, or the layout.
            batch_size: Number of graphs. Pass it if trailing graphs may be empty.
            group: Process group over which the points of these graphs are distributed,
                to get the state of all points.
            weight: Weight of each point, as in `forward`.
            u: Conditions of each graph, as in `forward`.

        Shapes:
            - `x`: $[N, C]$
            - `batch`, `weight`: $[N]$
            - `u`: $[B, G]$

        Returns:
            The state; each of its tensors has one row per graph. The states of parts of
            a graph can be merged into the state of the graph.

        Raises:
            ValueError: See `forward`.
        """
        self._check_one_encode("has no single state: call the module itself")
        layout = self._layout(x, batch, batch_size, group, "source", weight, u)
        if self.chunk_size is not None and in_chunks(self.chunk_size):
            x = layout.unsort(x) if layout is batch else x
            return encode_in_chunks(self, x, layout, self.chunk_size, group)
        x = x if layout is batch else layout.sort(x)
        return distributed_merge(self.encode_rows(x, layout, ()), group)

    def decode(
        self, state: State, x: Tensor, batch: Batch = None, u: Tensor | None = None
    ) -> Tensor:
        """Decode the state of each graph at points of that graph.

        Args:
            state: The state of each graph, from `encode`.
            x: Features of the points to decode at.
            batch: Graph of each point, or the layout.
            u: Conditions of each graph, the same as in `encode`.

        Shapes:
            - `x`: $[N, C]$
            - `batch`: $[N]$
            - `u`: $[B, G]$

        Returns:
            $[N, C']$

        Raises:
            ValueError: See `forward`; also if the number of graphs differs from that of
                the state.
        """
        self._check_one_encode("has no single state: call the module itself")
        latents = self.process(state, ())
        return self._decode(latents, x, batch, len(next(iter(state))), u)

    def _check_one_encode(self, remedy: str) -> None:
        if self.num_encodes != 1:
            raise ValueError(
                f"{type(self).__name__} encodes {self.num_encodes} times, so it "
                f"{remedy}"
            )

    def _layout(
        self,
        x: Tensor,
        batch: Any,
        batch_size: int | None,
        group: "ProcessGroup | None",
        role: Role = "both",
        weight: Tensor | None = None,
        u: Tensor | None = None,
    ) -> PointBatch:
        """Validate the input and return its layout, see `point_layout`."""
        if u is not None:
            check_conditions(self, u)
        usual = (
            isinstance(x, Tensor)
            and x.layout == torch.strided
            and x.is_floating_point()
            and x.dtype != torch.float64
            and x.dim() == 2
        )
        if not usual or x.size(1) != self.in_channels or is_debug_enabled():
            self._check_input(x, role)
        if group is None and (
            batch is None or (type(batch) is Tensor and batch.dim() == 1)
        ):
            return PointBatch.from_batch(x, batch, batch_size, weight, u)
        if isinstance(batch, tuple):
            raise ValueError("batch is a pair but x is not: pass one batch vector")
        return point_layout(self, x, batch, batch_size, group, weight, u)

    def _check_input(self, x: Tensor, role: Role) -> None:
        """Raise `ValueError` unless `x` has the width of points in this role."""
        width = self.in_channels
        if isinstance(width, tuple):
            if role == "both":
                raise ValueError(
                    f"x is one set of points, but in_channels is {width}: pass a pair "
                    "(source, query)"
                )
            width = width[role == "query"]
        check_points(x, width)
        if x.dtype == torch.float64:
            check_double(self)

    def _decode(
        self,
        latents: Latents,
        x: Tensor,
        batch: Batch,
        batch_size: int,
        u: Tensor | None,
    ) -> Tensor:
        """Decode at rows in batch order, or in the order of a layout."""
        layout = self._layout(x, batch, batch_size, None, "query", u=u)
        if self.chunk_size is not None and in_chunks(self.chunk_size):
            x = layout.unsort(x) if layout is batch else x
            y = decode_in_chunks(self, latents, x, layout, self.chunk_size)
            return layout.sort(y) if layout is batch else y
        if layout is batch:
            return self.decode_rows(latents, x, layout)
        return layout.unsort(self.decode_rows(latents, layout.sort(x), layout))
