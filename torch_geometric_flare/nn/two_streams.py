"""The source and query streams of `FLAREQuery`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional import PointBatch, State, ragged_flare_decode
from torch_geometric_flare.nn.backbone import BlockNetwork, MixerBackbone
from torch_geometric_flare.nn.block import ResidualBlock
from torch_geometric_flare.nn.conv.flare_conv import FLAREConv
from torch_geometric_flare.nn.dense.residual_mlp import (
    Activation,
    ResidualMLP,
    head_mlp,
    lift_mlp,
    reset_linear,
)
from torch_geometric_flare.nn.initialization import Init, reset_latents
from torch_geometric_flare.nn.mixer import PointMixer
from torch_geometric_flare.nn.streaming.chunks import (
    decode_in_chunks,
    encode_in_chunks,
    in_chunks,
    map_points,
)
from torch_geometric_flare.nn.streaming.recompute import gathered
from torch_geometric_flare.nn.streaming.stage import Latents

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@dataclass(frozen=True)
class StreamSizes:
    """Arguments of `FLAREQuery` that both streams share."""

    hidden_channels: int
    num_layers: int
    heads: int
    num_latents: int
    kv_layers: int
    mlp_layers: int
    scale: float
    act: Activation
    qk_norm: bool
    lift_layers: int
    init: Init
    condition_channels: int


class SourceStream(MixerBackbone):
    """`FLARE` with the same parameter names; also returns its states."""

    def __init__(self, in_channels: int, out_channels: int, sizes: StreamSizes) -> None:
        width = sizes.hidden_channels
        super().__init__(
            lambda: FLAREConv(
                width,
                heads=sizes.heads,
                num_latents=sizes.num_latents,
                kv_layers=sizes.kv_layers,
                scale=sizes.scale,
                act=sizes.act,
                qk_norm=sizes.qk_norm,
                init=sizes.init,
            ),
            in_channels,
            width,
            out_channels,
            sizes.num_layers,
            sizes.heads,
            feed_forward=lambda: ResidualMLP(
                width, width, width, sizes.mlp_layers, sizes.act
            ),
            lift_layers=sizes.lift_layers,
            act=sizes.act,
            init=sizes.init,
            condition_channels=sizes.condition_channels,
        )

    def run_with_states(
        self, x: Tensor, layout: PointBatch, group: "ProcessGroup | None" = None
    ) -> tuple[Tensor, list[State]]:
        r"""Compute the fields and the state of all points in each block.

        Args:
            x: Features of the points, in batch order.
            layout: The graphs.
            group: Process group over which the points of these graphs are distributed.

        Shapes:
            - `x`: $[N, C_\text{in}]$

        Returns:
            The fields, $[N, C_\text{out}]$, and one state per block.
        """
        size, states = self.chunk_size, []
        blocks: Any = self.blocks
        if size is None or not in_chunks(size):
            x = self.lift(layout.sort(x))
            for block in blocks:
                x, state = block.run_with_state(x, layout, group)
                states.append(state)
            return layout.unsort(self.head(self.norm(x))), states
        x = map_points(self.lift, x, size)
        for block in blocks:
            with gathered(block):
                state = encode_in_chunks(block, x, layout, size, group)
                x = decode_in_chunks(block, block.process(state), x, layout, size)
            states.append(state)
        return map_points(nn.Sequential(self.norm, self.head), x, size), states


class QueryStream(BlockNetwork):
    """The network of query points, which reads the states of the source stream.

    Its blocks only decode, so the whole network is pointwise: each chunk of queries
    passes through all blocks before the next chunk, in forward and backward.
    """

    def __init__(self, in_channels: int, out_channels: int, sizes: StreamSizes) -> None:
        super().__init__()
        width, layers = sizes.hidden_channels, sizes.lift_layers
        self.in_channels = in_channels
        self.hidden_channels = width
        self.out_channels = out_channels
        self.condition_channels = sizes.condition_channels
        self.init = sizes.init
        self.lift = lift_mlp(in_channels, width, layers, sizes.act)
        self.blocks = nn.ModuleList(
            ResidualBlock(
                width,
                LatentReader(sizes),
                ResidualMLP(width, width, width, sizes.mlp_layers, sizes.act),
                condition_channels=sizes.condition_channels,
            )
            for _ in range(sizes.num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = head_mlp(width, out_channels, layers, sizes.act)
        self._reset_lift()

    def decode_rows(self, latents: Latents, x: Tensor, layout: PointBatch) -> Tensor:
        """Return the fields at query points, given the latent values of all blocks."""
        values = latents[0].unbind(1)
        x = self.lift(x)
        for block, value in zip(self.blocks, values, strict=True):
            assert isinstance(block, ResidualBlock)
            x = block.decode_rows((value,), x, layout)
        y: Tensor = self.head(self.norm(x))
        return y


class LatentReader(PointMixer):
    """Scatters the values of latents to points.

    Keys and latents are separate parameters from those of the source's `FLAREConv`. The
    two streams lift different inputs, such as coordinates with normals and coordinates
    alone, so a shared map to keys would have to fit both.
    """

    no_weight_decay = ("latents",)

    def __init__(self, sizes: StreamSizes) -> None:
        super().__init__()
        self.in_channels = width = sizes.hidden_channels
        self.heads = sizes.heads
        self.scale = sizes.scale
        self.init = sizes.init
        head_channels = width // self.heads
        self.latents = nn.Parameter(
            torch.empty(self.heads, sizes.num_latents, head_channels)
        )
        self.key_mlp = ResidualMLP(
            width, width, width, sizes.kv_layers, sizes.act, init=sizes.init
        )
        self.latent_norm: nn.Module = nn.Identity()
        self.key_norm: nn.Module = nn.Identity()
        if sizes.qk_norm:
            self.latent_norm = nn.LayerNorm(head_channels)
            self.key_norm = nn.LayerNorm(head_channels)
        self.out = nn.Linear(width, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset parameters."""
        reset_latents(self.latents, self.scale, self.init)
        self.key_mlp.reset_parameters()
        reset_linear(self.out)
        for norm in (self.latent_norm, self.key_norm):
            if isinstance(norm, nn.LayerNorm):
                norm.reset_parameters()

    def decode_rows(self, latents: Latents, x: Tensor, layout: PointBatch) -> Tensor:
        """Scatter the values of the latents to points."""
        k = self.key_mlp(x).unflatten(-1, (self.heads, -1))
        k = self.key_norm(k).to(k.dtype)  # norms return float32 under autocast
        q = self.latent_norm(self.latents).to(k.dtype)
        y = ragged_flare_decode(q, k, latents[0].to(k.dtype), layout, scale=self.scale)
        out: Tensor = self.out(y.flatten(-2))
        return out
