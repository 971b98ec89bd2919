"""The PerceiverIO network."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional import (
    PointBatch,
    SoftmaxState,
    ragged_flare_decode,
    ragged_flare_encode,
)
from torch_geometric_flare.nn.backbone import Backbone
from torch_geometric_flare.nn.checks import (
    check_condition_channels,
    check_heads,
    check_positive,
)
from torch_geometric_flare.nn.dense.conditioned_norm import layer_norm
from torch_geometric_flare.nn.dense.latent_block import LatentBlock
from torch_geometric_flare.nn.dense.residual_mlp import head_mlp, lift_mlp, reset_linear
from torch_geometric_flare.nn.initialization import Init, check_init, reset_carrying
from torch_geometric_flare.nn.streaming.stage import Latents, run_whole

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class PerceiverIO(Backbone):
    r"""The PerceiverIO surrogate: an encoder, a transformer on latents, a decoder.

    From [arXiv 2107.14795](https://arxiv.org/abs/2107.14795), with a residual MLP
    before and a `LayerNorm` and a residual MLP after it, as in FLARE. In each head,
    with $M$ learned latents $Q$,

    $$Z = W\,\mathrm{softmax}_N(Q K^\top / \sqrt{D})\,V, \qquad
      Z \leftarrow \mathrm{block}_i(Z), \qquad
      Y = W'\,\mathrm{softmax}_M(Q' {K'}^\top / \sqrt{D})\,V'$$

    where $K, V$ are linear maps of the normalized points, the blocks are those of a
    transformer, $Q'$ is a linear map of the normalized points, and $K', V'$ are linear
    maps of the normalized latents. Neither cross-attention is residual. The cost is
    $O(NM)$ once per network and $O(M^2)$ per block.

    Args:
        in_channels: Width of the input.
        hidden_channels: Width of the hidden features.
        out_channels: Number of fields to predict.
        num_layers: Number of transformer blocks on the latents.
        heads: Number of heads of each attention.
        num_latents: Number of latents $M$.
        mlp_ratio: Hidden width of each block's MLP divided by `hidden_channels`.
        chunk_size: Number of points to process at a time in forward and backward, with
            the same result; `None` for all at once. Can be set on an existing model.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.
        condition_channels: Conditions `u` of each graph that modulate the norms of the
            points, as in `nn.ResidualBlock`; 0 for none.

    Shapes:
        - input: $[N, C_\text{in}]$, `batch` $[N]$
        - output: $[N, C_\text{out}]$

    Raises:
        ValueError: If a size is not positive or `heads` does not divide
            `hidden_channels`.

    Examples:
        >>> model = PerceiverIO(3, 32, 1, num_layers=2, heads=4, num_latents=16)
        >>> model(torch.randn(500, 3)).shape
        torch.Size([500, 1])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int = 8,
        heads: int = 8,
        num_latents: int = 512,
        mlp_ratio: int = 4,
        chunk_size: int | None = None,
        init: Init = "scaled",
        condition_channels: int = 0,
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            hidden_channels=hidden_channels,
            out_channels=out_channels,
            num_layers=num_layers,
            heads=heads,
            num_latents=num_latents,
            mlp_ratio=mlp_ratio,
            chunk_size=chunk_size,
        )
        check_heads(hidden_channels, heads)
        width = hidden_channels
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.out_channels = out_channels
        self.num_layers = num_layers
        self.heads = heads
        self.num_latents = num_latents
        self.mlp_ratio = mlp_ratio
        self.chunk_size = chunk_size
        self.init = check_init(init)
        self.condition_channels = check_condition_channels(condition_channels)

        self.lift = lift_mlp(in_channels, width, 2)
        self.blocks = nn.ModuleList(
            [
                _LatentStage(
                    width,
                    num_layers,
                    heads,
                    num_latents,
                    mlp_ratio * width,
                    init,
                    condition_channels,
                )
            ]
        )
        self.norm = nn.LayerNorm(width)
        self.head = head_mlp(width, out_channels, 2)
        self._reset_lift()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, {self.hidden_channels}, "
            f"{self.out_channels}, num_layers={self.num_layers}, heads={self.heads}, "
            f"num_latents={self.num_latents})"
        )


class _LatentStage(nn.Module):
    """The encoder, the transformer blocks on the latents, and the decoder."""

    num_encodes = 1
    no_weight_decay = ("latents",)

    def __init__(
        self,
        channels: int,
        num_layers: int,
        heads: int,
        num_latents: int,
        hidden_channels: int,
        init: Init,
        condition_channels: int,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.init = init
        self.condition_channels = condition_channels
        self.scale = (channels // heads) ** -0.5
        self.latents = nn.Parameter(torch.empty(heads, num_latents, channels // heads))
        self.encoder_norm = layer_norm(channels, condition_channels)
        self.encoder_key = nn.Linear(channels, channels)
        self.encoder_value = nn.Linear(channels, channels)
        self.encoder_out = nn.Linear(channels, channels)
        self.blocks = nn.ModuleList(
            LatentBlock(channels, heads, hidden_channels, qkv_bias=False, init=init)
            for _ in range(num_layers)
        )
        self.latent_norm = nn.LayerNorm(channels)
        self.decoder_key = nn.Linear(channels, channels)
        self.decoder_value = nn.Linear(channels, channels)
        self.decoder_norm = layer_norm(channels, condition_channels)
        self.decoder_query = nn.Linear(channels, channels)
        self.decoder_out = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset parameters."""
        nn.init.normal_(self.latents)
        for block in self.blocks:
            assert isinstance(block, LatentBlock)
            block.reset_parameters()
        for module in self.children():
            if isinstance(module, nn.Linear):
                reset_linear(module)
                if self.init == "scaled":  # no residual connection preserves the points
                    reset_carrying(module)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()

    def encode_rows(
        self, x: Tensor, layout: PointBatch, latents: Latents = ()
    ) -> SoftmaxState:
        """Gather points into latents: value [B, H, M, D], log-sum-exp [B, H, M]."""
        norm_arguments = (layout,) if self.condition_channels else ()
        x = self.encoder_norm(x, *norm_arguments)
        k = self._split_heads(self.encoder_key(x))
        v = self._split_heads(self.encoder_value(x))
        # Under autocast, the keys have lower precision.
        q = self.latents.to(k.dtype)
        return ragged_flare_encode(q, k, v, layout, scale=self.scale)

    def process(self, state: SoftmaxState, latents: Latents = ()) -> Latents:
        """Return the keys and values of each graph's latents for the decoder."""
        z = state.value.to(self.latents.dtype).transpose(1, 2).flatten(2)  # [B, M, C]
        z = self.encoder_out(z)
        for block in self.blocks:
            z = block(z)
        z = self.latent_norm(z)
        k, v = (
            self._split_heads(linear(z)).transpose(1, 2)  # [B, H, M, D]
            for linear in (self.decoder_key, self.decoder_value)
        )
        return k, v

    def decode_rows(self, latents: Latents, x: Tensor, layout: PointBatch) -> Tensor:
        """Decode at each point by attention to the latents of its graph."""
        norm_arguments = (layout,) if self.condition_channels else ()
        q = self._split_heads(self.decoder_query(self.decoder_norm(x, *norm_arguments)))
        k, v = (t.to(q.dtype) for t in latents)
        # Here, points are the queries and latents the keys, so q and k are swapped.
        y = ragged_flare_decode(k, q, v, layout, scale=self.scale)
        out: Tensor = self.decoder_out(y.flatten(-2))
        return out

    def forward(
        self,
        x: Tensor,
        layout: PointBatch,
        group: "ProcessGroup | None" = None,
    ) -> Tensor:
        """Run all steps on all points of this process at once."""
        return run_whole(self, x, layout, group)

    def _split_heads(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(-1, (self.heads, -1))
        return heads
