"""The vanilla transformer."""

from torch_geometric_flare.nn.attention.softmax_attention import SoftmaxAttention
from torch_geometric_flare.nn.initialization import Init
from torch_geometric_flare.nn.whole_backbone import WholeBackbone


class Transformer(WholeBackbone):
    r"""Softmax attention among all points of a graph, as a yardstick for the others.

    The vanilla transformer that [arXiv 2508.12594](https://arxiv.org/abs/2508.12594)
    compares with, after [arXiv 1706.03762](https://arxiv.org/abs/1706.03762). A
    residual MLP lifts each point to the hidden width $C$, `num_layers` pre-norm blocks
    of `SoftmaxAttention` and an MLP of inner width $rC$ with an exact GELU follow, and
    a `LayerNorm` and a residual MLP give the fields:

    $$x \leftarrow x + \mathrm{Attention}(\mathrm{LN}(x)), \qquad
      x \leftarrow x + W_2\,\mathrm{GELU}(W_1\,\mathrm{LN}(x))$$

    **The cost is quadratic.** Each block takes $4N^2C$ operations per graph for its
    scores and values: with $C = 80$, $3 \cdot 10^{10}$ at 10,000 points,
    $3 \cdot 10^{12}$ at 100,000 and $3 \cdot 10^{14}$ at a million, where its linear
    maps and its MLP with $r = 4$ take $2 \cdot 10^{11}$. Some 10,000 points are
    practical on a CPU and some 100,000 on a GPU; `FLARE` is linear in $N$. The memory
    is linear.

    Attention among all points leaves no state that merges. So the model cannot compute
    in chunks, on points spread over processes, or in `predict_stream`, and says so.

    Args:
        in_channels: Width of the input.
        hidden_channels: Width $C$ of the hidden features; 80 in the paper.
        out_channels: Fields to predict.
        num_layers: Number of blocks.
        heads: Attention heads of each block; 5 in the paper.
        mlp_ratio: Inner over outer width $r$ of each block's MLP.
        chunk_size: `None`; there as in other models, so that asking for chunks is
            answered by a clear error.
        init: How parameters start, see `nn.initialization`: `"scaled"`, or `"paper"` as
            published.

    Shapes:
        - input: $[N, C_\text{in}]$, `batch` $[N]$
        - output: $[N, C_\text{out}]$

    Raises:
        ValueError: If a size is not positive, `heads` does not divide
            `hidden_channels`, or `chunk_size` is given.

    Examples:
        >>> model = Transformer(3, 32, 1, num_layers=2, heads=4)
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
            lambda: SoftmaxAttention(hidden_channels, heads, init),
            init,
        )
