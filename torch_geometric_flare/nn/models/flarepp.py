"""The FLARE++ network."""

from torch_geometric_flare.nn.backbone import MixerBackbone
from torch_geometric_flare.nn.checks import check_positive
from torch_geometric_flare.nn.conv.flarepp_conv import FLAREPPConv
from torch_geometric_flare.nn.dense.residual_mlp import (
    Activation,
    pointwise_mlp,
)
from torch_geometric_flare.nn.initialization import Init


class FLAREPP(MixerBackbone):
    r"""The FLARE++ surrogate: maps features of points to fields at these points.

    From [arXiv 2608.11519](https://arxiv.org/abs/2608.11519). A residual MLP lifts each
    point to the hidden width $C$. Then come `num_layers` pre-norm blocks of
    `FLAREPPConv` and an MLP $W_2\,\phi(W_1 x)$ of inner width $rC$, and finally a
    `LayerNorm` and a residual MLP that predicts the fields:

    $$x \leftarrow x + \mathrm{FLAREPPConv}(\mathrm{LN}(x)), \qquad
      x \leftarrow x + W_2\,\phi(W_1\,\mathrm{LN}(x))$$

    Args:
        in_channels: Width of the input.
        hidden_channels: Width $C$ of the hidden features; 128 in the paper.
        out_channels: Number of fields to predict.
        num_layers: Number of blocks.
        heads: Number of attention heads of each block.
        num_latents: Number of latents per head, the rank of each block's operator.
        mlp_ratio: Ratio $r$ of inner to outer width of each block's MLP.
        act: Activation $\phi$; `"gelu"` is the tanh approximation.
        chunk_size: Number of points to process at a time in forward and backward, with
            the same result; `None` for all at once. Can be set on an existing model.
            Each block then saves only its input and recomputes the rest in backward.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.
        condition_channels: Conditions `u` of each graph that modulate the norms of
            the blocks, see `nn.ResidualBlock`; 0 for none.

    Shapes:
        - input: $[N, C_\text{in}]$, `batch` $[N]$
        - output: $[N, C_\text{out}]$

    Raises:
        ValueError: If a size is not positive or `heads` does not divide
            `hidden_channels`.

    Examples:
        >>> model = FLAREPP(3, 32, 1, num_layers=2, heads=4, num_latents=16)
        >>> model(torch.randn(500, 3)).shape
        torch.Size([500, 1])
    """

    shown = ("num_layers", "heads", "num_latents")

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int = 8,
        heads: int = 8,
        num_latents: int = 64,
        mlp_ratio: int = 2,
        act: Activation = "gelu",
        chunk_size: int | None = None,
        init: Init = "scaled",
        condition_channels: int = 0,
    ) -> None:
        check_positive(mlp_ratio=mlp_ratio)
        width = hidden_channels
        super().__init__(
            lambda: FLAREPPConv(width, heads=heads, num_latents=num_latents),
            in_channels,
            hidden_channels,
            out_channels,
            num_layers,
            heads,
            feed_forward=lambda: pointwise_mlp(
                width, mlp_ratio * width, width, act, init
            ),
            act=act,
            chunk_size=chunk_size,
            init=init,
            condition_channels=condition_channels,
        )
        self.num_latents = num_latents
        self.mlp_ratio = mlp_ratio
        self.__dict__["act"] = act  # do not register it as a module
