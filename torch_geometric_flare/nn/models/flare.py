"""The FLARE network."""

from torch_geometric_flare._arguments import check_kind
from torch_geometric_flare.nn.backbone import MixerBackbone
from torch_geometric_flare.nn.checks import check_layers
from torch_geometric_flare.nn.conv.flare_conv import FLAREConv
from torch_geometric_flare.nn.dense.residual_mlp import Activation, ResidualMLP
from torch_geometric_flare.nn.initialization import Init


class FLARE(MixerBackbone):
    r"""The FLARE surrogate: maps features of points to fields at these points.

    From [arXiv 2508.12594](https://arxiv.org/abs/2508.12594). A residual MLP lifts each
    point to the hidden width. Then come `num_layers` pre-norm blocks of `FLAREConv` and
    a residual MLP, and finally a `LayerNorm` and a residual MLP that predicts the
    fields.

    Args:
        in_channels: Width of the input.
        hidden_channels: Width of the hidden features.
        out_channels: Number of fields to predict.
        num_layers: Number of blocks.
        heads: Number of attention heads of each block.
        num_latents: Number of latents per head, the rank of each block's operator.
        kv_layers: Number of residual hidden layers of the key and value MLPs.
        mlp_layers: Number of residual hidden layers of each block's pointwise MLP.
        scale: Scaling factor of the attention scores.
        act: Activation; `"gelu"` is the tanh approximation.
        qk_norm: Whether queries and keys pass a `LayerNorm`.
        chunk_size: Number of points to process at a time in forward and backward, with
            the same result; `None` for all at once. Can be set on an existing model.
            Each block then saves only its input and recomputes the rest in backward.
        lift_layers: Number of residual hidden layers of the first and the last MLP; -1
            makes each a single linear map.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.
        condition_channels: Conditions `u` of each graph that modulate the norms of
            the blocks, see `nn.ResidualBlock`; 0 for none.
        condition_octaves: Number of octaves of sines and cosines of each condition,
            such as a time, that the network also sees. Scale the conditions to about
            $[-1, 1]$.
        latent_conditions: Whether the conditions also move the latents of each block,
            see `nn.FLAREConv`.
        shared_latents: Whether all heads of a block share the same latents.
        latent_blocks: Number of transformer blocks on the latents of each block,
            between gathering and scattering; 0 for none.

    Shapes:
        - input: $[N, C_\text{in}]$, `batch` $[N]$; or padded $[B, N, C_\text{in}]$
            with a mask $[B, N]$
        - output: $[N, C_\text{out}]$ or $[B, N, C_\text{out}]$

    Raises:
        ValueError: If a size is not positive, `heads` does not divide
            `hidden_channels`, or there are `condition_octaves` or `latent_conditions`
            without conditions.

    Examples:
        >>> model = FLARE(3, 32, 1, num_layers=2, heads=4, num_latents=16)
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
        kv_layers: int = 3,
        mlp_layers: int = 3,
        scale: float = 1.0,
        act: Activation = "gelu",
        qk_norm: bool = False,
        chunk_size: int | None = None,
        lift_layers: int = 2,
        init: Init = "scaled",
        condition_channels: int = 0,
        shared_latents: bool = False,
        latent_blocks: int = 0,
        condition_octaves: int = 0,
        latent_conditions: bool = False,
    ) -> None:
        check_layers(
            kv_layers=kv_layers, mlp_layers=mlp_layers, lift_layers=lift_layers
        )
        check_kind(bool, "True or False", latent_conditions=latent_conditions)
        if latent_conditions and not condition_channels:
            raise ValueError(
                "latent_conditions is True, but condition_channels is 0: give the "
                "number of conditions of a graph"
            )
        width = hidden_channels
        super().__init__(
            lambda: FLAREConv(
                width,
                heads=heads,
                num_latents=num_latents,
                kv_layers=kv_layers,
                scale=scale,
                act=act,
                qk_norm=qk_norm,
                init=init,
                shared_latents=shared_latents,
                latent_blocks=latent_blocks,
                condition_channels=condition_channels if latent_conditions else 0,
                condition_octaves=condition_octaves if latent_conditions else 0,
            ),
            in_channels,
            hidden_channels,
            out_channels,
            num_layers,
            heads,
            feed_forward=lambda: ResidualMLP(width, width, width, mlp_layers, act),
            lift_layers=lift_layers,
            act=act,
            chunk_size=chunk_size,
            init=init,
            condition_channels=condition_channels,
            condition_octaves=condition_octaves,
        )
        self.num_latents = num_latents
        self.kv_layers = kv_layers
        self.mlp_layers = mlp_layers
        self.scale = scale
        self.__dict__["act"] = act  # do not register it as a module
        self.qk_norm = qk_norm
        self.lift_layers = lift_layers
        self.shared_latents = shared_latents
        self.latent_blocks = latent_blocks
        self.latent_conditions = latent_conditions
