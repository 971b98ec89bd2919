"""A transformer of `NystromAttention`."""

from torch_geometric_flare.nn.attention.nystrom_attention import NystromAttention
from torch_geometric_flare.nn.initialization import Init
from torch_geometric_flare.nn.whole_backbone import WholeBackbone


class Nystromformer(WholeBackbone):
    r"""A `Transformer` whose mixer is `NystromAttention`.

    From [arXiv 2102.03902](https://arxiv.org/abs/2102.03902).

    The result depends on the order of the points.

    Args:
        in_channels: Width of the input.
        hidden_channels: Width of the hidden features.
        out_channels: Fields to predict.
        num_landmarks: Landmarks of each graph.
        num_layers: Number of blocks.
        heads: Attention heads of each block.
        mlp_ratio: Inner over outer width of each block's MLP.
        chunk_size: `None`, as of `Transformer`.
        init: How parameters start, see `nn.initialization`: `"scaled"`, or `"paper"` as
            published.

    Shapes:
        - input: $[N, C_\text{in}]$, `batch` $[N]$
        - output: $[N, C_\text{out}]$

    Raises:
        ValueError: As `Transformer`, or as `NystromAttention`.

    Examples:
        >>> model = Nystromformer(3, 32, 1, num_layers=2, heads=4)
        >>> model(torch.randn(500, 3)).shape
        torch.Size([500, 1])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_landmarks: int = 64,
        num_layers: int = 8,
        heads: int = 8,
        mlp_ratio: int = 4,
        chunk_size: int | None = None,
        init: Init = "scaled",
    ) -> None:
        super().__init__(
            in_channels,
            hidden_channels,
            out_channels,
            num_layers,
            heads,
            mlp_ratio,
            chunk_size,
            lambda: NystromAttention(
                hidden_channels, heads=heads, num_landmarks=num_landmarks, init=init
            ),
            init,
        )
        self.num_landmarks = num_landmarks

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, num_landmarks={self.num_landmarks})"
