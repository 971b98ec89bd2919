"""A transformer of `LinformerAttention`."""

from torch_geometric_flare.nn.attention.linformer_attention import LinformerAttention
from torch_geometric_flare.nn.initialization import Init
from torch_geometric_flare.nn.whole_backbone import WholeBackbone


class Linformer(WholeBackbone):
    r"""A `Transformer` whose mixer is `LinformerAttention`.

    From [arXiv 2006.04768](https://arxiv.org/abs/2006.04768).

    It is bound to graphs of `num_points` points in one order.

    Args:
        in_channels: Width of the input.
        hidden_channels: Width of the hidden features.
        out_channels: Fields to predict.
        num_points: Points of every graph.
        num_projections: Keys and values that remain.
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
        ValueError: As `Transformer`, or as `LinformerAttention`.

    Examples:
        >>> model = Linformer(3, 32, 1, num_points=500, num_layers=2, heads=4)
        >>> model(torch.randn(500, 3)).shape
        torch.Size([500, 1])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_points: int,
        num_projections: int = 64,
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
            lambda: LinformerAttention(
                hidden_channels,
                heads=heads,
                num_points=num_points,
                num_projections=num_projections,
                init=init,
            ),
            init,
        )
        self.num_points = num_points
        self.num_projections = num_projections

    def __repr__(self) -> str:
        return (
            f"{super().__repr__()[:-1]}, "
            f"num_points={self.num_points}, num_projections={self.num_projections})"
        )
