"""Transformer blocks on the latents of a network or of one of its layers."""

from torch import Tensor, nn

from torch_geometric_flare.functional.attention.choice import compute
from torch_geometric_flare.nn.dense.residual_mlp import (
    Activation,
    pointwise_mlp,
    reset_linear,
)
from torch_geometric_flare.nn.initialization import Init, check_init, reset_scoring


class LatentBlock(nn.Module):
    r"""A pre-norm transformer block on the latents of each graph.

    $$z \leftarrow z + W_o\,\mathrm{softmax}(QK^\top / \sqrt{D})\,V, \qquad
      z \leftarrow z + W_2\,\phi(W_1\,\mathrm{LN}(z))$$

    where $Q, K, V$ are linear maps of $\mathrm{LN}(z)$, split into heads.

    Args:
        channels: Width $C$ of the latents.
        heads: Number of attention heads $H$, a divisor of `channels`.
        hidden_channels: Width inside the MLP.
        act: Activation $\phi$; `"gelu"` is the tanh approximation.
        qkv_bias: Whether the maps to $Q, K, V$ have a bias.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.

    Shapes:
        - input: $[B, M, C]$
        - output: $[B, M, C]$
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        hidden_channels: int,
        act: Activation = "gelu",
        qkv_bias: bool = True,
        init: Init = "scaled",
    ) -> None:
        super().__init__()
        self.heads = heads
        self.init = check_init(init)
        self.attention_norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.out = nn.Linear(channels, channels)
        self.feed_forward_norm = nn.LayerNorm(channels)
        self.feed_forward = pointwise_mlp(
            channels, hidden_channels, channels, act, init
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset parameters."""
        reset_linear(self.qkv)
        if self.init == "scaled":
            reset_scoring(self.qkv)
        reset_linear(self.out)
        for module in (self.attention_norm, self.feed_forward_norm, self.feed_forward):
            module.reset_parameters()

    def forward(self, z: Tensor) -> Tensor:
        """Let the latents of each graph attend to each other."""
        qkv = self.qkv(self.attention_norm(z)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [B, H, M, D]
        y = compute("self_attention", q, k, v, q.size(-1) ** -0.5)
        z = z + self.out(y.transpose(1, 2).flatten(2))
        updated: Tensor = z + self.feed_forward(self.feed_forward_norm(z))
        return updated


class LatentBlocks(nn.Module):
    r"""A chain of `LatentBlock`s on latents that are split into heads.

    Latent $m$ of all heads forms one token of $C = H D$ channels, so that the blocks
    also mix heads. The MLP of each block has width $C$. The cost is $O(M^2)$ per graph.
    The blocks do not involve points, so they do not affect computation in chunks or
    over processes.

    Args:
        channels: Total width $C$ of all heads.
        heads: Number of heads $H$ of the latents and of the attention among them.
        num_blocks: Number of blocks.
        act: Activation of the MLPs; `"gelu"` is the tanh approximation.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.

    Shapes:
        - input: $[B, H, M, D]$
        - output: $[B, H, M, D]$
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        num_blocks: int,
        act: Activation = "gelu",
        init: Init = "scaled",
    ) -> None:
        super().__init__()
        self.heads = heads
        self.blocks = nn.ModuleList(
            LatentBlock(channels, heads, channels, act, init=init)
            for _ in range(num_blocks)
        )

    def reset_parameters(self) -> None:
        """Reset parameters."""
        for block in self.blocks:
            block.reset_parameters()  # type: ignore[operator]

    def forward(self, z: Tensor) -> Tensor:
        """Let the latents of each graph attend to each other."""
        # States have at least float32, even if the weights have half precision.
        tokens = z.transpose(1, 2).flatten(2).to(next(self.parameters()).dtype)
        for block in self.blocks:
            tokens = block(tokens)
        mixed: Tensor = tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)
        return mixed
