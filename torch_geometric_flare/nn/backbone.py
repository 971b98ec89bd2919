"""Base classes of the networks: lift, blocks, norm, head."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional import PointBatch
from torch_geometric_flare.nn.autocast import outside_autocast
from torch_geometric_flare.nn.block import ResidualBlock
from torch_geometric_flare.nn.checks import (
    check_condition_channels,
    check_condition_octaves,
    check_conditions,
    check_double,
    check_heads,
    check_points,
    check_positive,
)
from torch_geometric_flare.nn.dense.residual_mlp import (
    Activation,
    head_mlp,
    lift_mlp,
    pointwise_mlp,
)
from torch_geometric_flare.nn.initialization import Init, check_init, reset_carrying
from torch_geometric_flare.nn.layout import Batch, point_layout
from torch_geometric_flare.nn.padded import forward_padded, refuse_script
from torch_geometric_flare.nn.streaming.chunks import (
    in_chunks,
    map_points,
    run_in_chunks,
)
from torch_geometric_flare.nn.streaming.stage import why_whole

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class BlockNetwork(nn.Module):
    r"""Base class of networks with blocks between a lift and a head.

    $$x \leftarrow \mathrm{lift}(x), \qquad x \leftarrow \mathrm{block}_i(x), \qquad
      y = \mathrm{head}(\mathrm{norm}(x))$$

    A subclass sets the attributes below. `lift`, `norm` and `head` act on each point
    separately; `init` selects the initialization, see `nn.initialization`. The layout
    passes the `condition_channels` conditions of each graph to the blocks.
    """

    in_channels: int
    hidden_channels: int
    out_channels: int
    condition_channels: int = 0
    init: Init = "paper"
    lift: nn.Module
    blocks: nn.ModuleList
    norm: nn.Module
    head: nn.Module

    def reset_parameters(self) -> None:
        """Reset parameters."""
        modules: Any = (self.lift, *self.blocks, self.norm, self.head)
        for module in modules:
            module.reset_parameters()
        self._reset_lift()

    def _reset_lift(self) -> None:
        """Make the lift preserve the input scale; call it last in a constructor."""
        if self.init == "scaled":
            reset_carrying(self.lift)

    def why_unsupported(self, way: str) -> str | None:
        """Return why the network cannot run in this way; `None` if it can.

        Args:
            way: `"chunk_size"`, `"group"` or `"predict_stream"`.
        """
        reasons = (why_whole(block) for block in self.blocks)
        return next((reason for reason in reasons if reason is not None), None)

    def run_blocks(self, x: Tensor, layout: Any, **arguments: Any) -> Tensor:
        r"""Compute the network on all points of this process at once.

        Args:
            x: Features, in the order of the layout.
            layout: The graphs, as the blocks take them.
            **arguments: Further arguments of every block.

        Shapes:
            - `x`: $[N, C_\text{in}]$
        """
        x = self.lift(x)
        for block in self.blocks:
            x = block(x, layout, **arguments)
        y: Tensor = self.head(self.norm(x))
        return y


class Backbone(BlockNetwork):
    r"""Base class of networks whose points interact only in the blocks.

    It runs on all points at once and on padded graphs. If all blocks are a
    `nn.streaming.Stage`, it also runs in chunks of `chunk_size` points, on points
    distributed over the processes of a `group`, and from file to file with
    `predict_stream`. A subclass sets

    - `in_channels`, `hidden_channels`, `out_channels` and `chunk_size`;
    - `init`, the initialization, see `nn.initialization`; `"paper"` by default;
    - `lift`, `norm` and `head`: modules that act on each point separately;
    - `blocks`: modules called as `block(x, layout, group=group)`, such as
      `ResidualBlock` around a `PointMixer`. A network that encodes and decodes once has
      one block, whose `process` contains the rest.
    """

    chunk_size: int | None

    __prepare_scriptable__ = refuse_script  # needed by torch.jit.script

    def input_rows(self, x: Tensor, layout: PointBatch) -> Tensor:
        """Return the input of `lift` at each point: `x`, unless a subclass adds to it.

        A model with a fixed grid can use the position of each row only here.

        Args:
            x: Features of all points, in the caller's order.
            layout: The graphs.
        """
        return x

    def forward(
        self,
        x: Tensor,
        batch: Batch = None,
        batch_size: int | None = None,
        group: "ProcessGroup | None" = None,
        weight: Tensor | None = None,
        u: Tensor | None = None,
    ) -> Tensor:
        r"""Predict the fields at every point.

        Args:
            x: Features of the points, normalized coordinates included.
            batch: Graph of each point, sorted; `None` for a single graph. With a
                `PointBatch`, the rows of `x` are in its order. For padded graphs, a
                mask that is true for real points.
            batch_size: Number of graphs; trailing ones may be empty.
            group: Processes that hold the other points of these graphs; each passes its
                points, possibly none, and gets the fields there. `None` if this process
                has all points.
            weight: Non-negative weight of each point, such as its share of a surface;
                only ratios within a graph matter. `None` for equal weights.
            u: Conditions of each graph, such as a speed and an angle, if the network
                has `condition_channels`. With a `group`, equal on all processes.

        Shapes:
            - `x`: $[N, C_\text{in}]$, padded $[B, N, C_\text{in}]$
            - `batch`, `weight`: $[N]$, padded $[B, N]$
            - `u`: $[B, G]$

        Returns:
            $[N, C_\text{out}]$, padded $[B, N, C_\text{out}]$ with zeros. Points of one
            graph never depend on another graph.

        Raises:
            ValueError: If the width of `x` is not `in_channels`, or `batch` is
                unsorted, of another length, or out of range, or the processes of
                `group` disagree on the number of graphs, or differ in their
                configuration or parameters, `weight` is not a measure, `u` is
                missing or has another shape, or there is a `chunk_size` or a `group`
                and the network needs all points at once.
            RuntimeError: If a process of `group` is lost.
        """
        if getattr(x, "ndim", 2) == 3 or getattr(batch, "dtype", None) == torch.bool:
            return forward_padded(self, x, batch, batch_size, group, weight, u)
        if torch.is_autocast_enabled("cpu"):
            y = outside_autocast(
                self,
                all(getattr(b, "supports_cpu_kernels", False) for b in self.blocks),
                lambda: Backbone.forward(self, x, batch, batch_size, group, weight, u),
                x,
            )
            if y is not None:
                return y
        self._check_supported(chunk_size=self.chunk_size, group=group)
        check_points(x, self.in_channels)
        if x.dtype == torch.float64:
            check_double(self)
        layout = point_layout(self, x, batch, batch_size, group, weight, u)
        if self.condition_channels or layout.u is not None:
            check_conditions(self, layout.u)
        x = self.input_rows(x, layout)
        if self.chunk_size is not None and in_chunks(self.chunk_size):
            size = self.chunk_size
            x = layout.unsort(x) if layout is batch else x
            x = map_points(self.lift, x, size)
            for block in self.blocks:
                x = run_in_chunks(block, x, layout, size, group)
            y = map_points(nn.Sequential(self.norm, self.head), x, size)
            return layout.sort(y) if layout is batch else y
        if layout is batch:
            return self.run_blocks(x, layout, group=group)
        return layout.unsort(self.run_blocks(layout.sort(x), layout, group=group))

    def _check_supported(self, **values: object) -> None:
        """Raise `ValueError` for an argument that the network does not support."""
        for name, value in values.items():
            reason = None if value is None else self.why_unsupported(name)
            if reason is not None:
                raise ValueError(
                    f"{name} is {value!r}, but {type(self).__name__} does not support "
                    f"it, since {reason}: pass None, or take a model such as FLARE"
                )


class MixerBackbone(Backbone):
    r"""Pre-norm residual blocks of a mixer and a pointwise MLP.

    A baseline is defined by its mixer: `Transformer` is a `MixerBackbone` of
    `SoftmaxAttention`.

    Args:
        mixer: Function that returns the mixer of one block.
        in_channels: Width of the input.
        hidden_channels: Width of the hidden features.
        out_channels: Fields to predict.
        num_layers: Number of blocks.
        heads: Attention heads of each block.
        mlp_ratio: Ratio of inner to outer width of each block's MLP, with an exact
            GELU.
        feed_forward: Function that returns the pointwise map of one block, to replace
            that MLP.
        lift: Function that returns the first map, to replace an MLP.
        lift_layers: Residual hidden layers of the first and the last MLP; -1 makes each
            a single linear map.
        act: Activation of both.
        chunk_size: Points to compute at a time; `None` for all at once.
        init: The initialization, see `nn.initialization`.
        condition_channels: Conditions of each graph; 0 for none.
        condition_octaves: Octaves of sines and cosines of each condition that the norms
            of the blocks also take.

    Raises:
        ValueError: If a size is not positive, `heads` does not divide
            `hidden_channels`, or `chunk_size` is given and the mixer needs all points
            at once.
    """

    shown: tuple[str, ...] = ("num_layers", "heads")
    """Attributes shown in the representation."""

    def __init__(
        self,
        mixer: Callable[[], nn.Module],
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int,
        heads: int,
        mlp_ratio: int = 4,
        feed_forward: Callable[[], nn.Module] | None = None,
        lift: Callable[[], nn.Module] | None = None,
        lift_layers: int = 2,
        act: Activation = "gelu",
        chunk_size: int | None = None,
        init: Init = "scaled",
        condition_channels: int = 0,
        condition_octaves: int = 0,
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            hidden_channels=hidden_channels,
            out_channels=out_channels,
            num_layers=num_layers,
            heads=heads,
            chunk_size=chunk_size,
        )
        check_heads(hidden_channels, heads)
        self.in_channels = in_channels
        self.hidden_channels = width = hidden_channels
        self.out_channels = out_channels
        self.num_layers = num_layers
        self.heads = heads
        self.chunk_size = chunk_size
        self.init = check_init(init)
        self.condition_channels = check_condition_channels(condition_channels)
        self.condition_octaves = check_condition_octaves(
            condition_octaves, condition_channels
        )

        def pointwise() -> nn.Module:
            return pointwise_mlp(width, mlp_ratio * width, width, nn.GELU(), init)

        def embed() -> nn.Module:
            return lift_mlp(in_channels, width, lift_layers, act)

        if feed_forward is None:
            check_positive(mlp_ratio=mlp_ratio)
            self.mlp_ratio = mlp_ratio
            feed_forward = pointwise
        self.lift = (lift or embed)()
        self.blocks = nn.ModuleList(
            ResidualBlock(
                width,
                mixer(),
                feed_forward(),
                condition_channels=condition_channels,
                condition_octaves=condition_octaves,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = head_mlp(width, out_channels, lift_layers, act)
        self._reset_lift()
        self._check_supported(chunk_size=chunk_size)

    def __repr__(self) -> str:
        text = "".join(f", {name}={getattr(self, name)}" for name in self.shown)
        return (
            f"{type(self).__name__}({self.in_channels}, {self.hidden_channels}, "
            f"{self.out_channels}{text})"
        )
