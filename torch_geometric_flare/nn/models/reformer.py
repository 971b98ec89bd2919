"""A transformer of `LSHAttention`."""

from torch_geometric_flare.nn.attention.lsh_attention import LSHAttention
from torch_geometric_flare.nn.initialization import Init
from torch_geometric_flare.nn.whole_backbone import WholeBackbone


class Reformer(WholeBackbone):
    r"""A `Transformer` whose mixer is `LSHAttention`.

    From [arXiv 2001.04451](https://arxiv.org/abs/2001.04451).

    It has no reversible layers. The result depends on the order of the points.

    Args:
        in_channels: Width of the input.
        hidden_channels: Width of the hidden features.
        out_channels: Fields to predict.
        num_buckets: Buckets, an even number.
        attention_chunk: Points of a chunk.
        num_rounds: Rounds of hashing.
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
        ValueError: As `Transformer`, or as `LSHAttention`.

    Examples:
        >>> model = Reformer(3, 32, 1, num_layers=2, heads=4)
        >>> model(torch.randn(500, 3)).shape
        torch.Size([500, 1])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_buckets: int = 32,
        attention_chunk: int = 64,
        num_rounds: int = 4,
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
            lambda: LSHAttention(
                hidden_channels,
                heads=heads,
                num_buckets=num_buckets,
                attention_chunk=attention_chunk,
                num_rounds=num_rounds,
                init=init,
            ),
            init,
        )
        self.num_buckets = num_buckets
        self.attention_chunk = attention_chunk
        self.num_rounds = num_rounds

    def __repr__(self) -> str:
        return (
            f"{super().__repr__()[:-1]}, "
            f"num_buckets={self.num_buckets}, attention_chunk={self.attention_chunk}, "
            f"num_rounds={self.num_rounds})"
        )
