"""Transformers: softmax attention among all points, and three of its approximations.

Their attention has no state that merges, so they cannot run in chunks, on points spread
over processes or in `predict_stream`. They take `chunk_size` like other models, to
refuse it with a clear error.
"""

from torch_geometric_flare.nn.attention.linformer_attention import LinformerAttention
from torch_geometric_flare.nn.attention.lsh_attention import LSHAttention
from torch_geometric_flare.nn.attention.nystrom_attention import NystromAttention
from torch_geometric_flare.nn.attention.softmax_attention import SoftmaxAttention
from torch_geometric_flare.nn.backbone import MixerBackbone
from torch_geometric_flare.nn.initialization import Init


class Transformer(MixerBackbone):
    r"""Softmax attention among all points of a graph, for comparison.

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

    Attention among all points has no state that merges. So the model cannot compute in
    chunks, on points spread over processes, or in `predict_stream`, and says so.

    Args:
        in_channels: Width of the input.
        hidden_channels: Width $C$ of the hidden features; 80 in the paper.
        out_channels: Fields to predict.
        num_layers: Number of blocks.
        heads: Attention heads of each block; 5 in the paper.
        mlp_ratio: Inner over outer width $r$ of each block's MLP.
        chunk_size: `None`; any other value is refused.
        init: How parameters start, see `nn.initialization`: `"scaled"`, or `"paper"` as
            published.
        condition_channels: Conditions `u` of each graph that modulate the norms of
            the blocks, see `nn.ResidualBlock`; 0 for none.

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
        condition_channels: int = 0,
    ) -> None:
        super().__init__(
            lambda: SoftmaxAttention(hidden_channels, heads, init),
            in_channels,
            hidden_channels,
            out_channels,
            num_layers,
            heads,
            mlp_ratio,
            chunk_size=chunk_size,
            init=init,
            condition_channels=condition_channels,
        )


class Linformer(MixerBackbone):
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
        chunk_size: `None`; any other value is refused.
        init: How parameters start, see `nn.initialization`: `"scaled"`, or `"paper"` as
            published.
        condition_channels: Conditions `u` of each graph that modulate the norms of
            the blocks, see `nn.ResidualBlock`; 0 for none.

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

    shown = ("num_layers", "heads", "num_points", "num_projections")

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
        condition_channels: int = 0,
    ) -> None:
        super().__init__(
            lambda: LinformerAttention(
                hidden_channels, num_points, heads, num_projections, init
            ),
            in_channels,
            hidden_channels,
            out_channels,
            num_layers,
            heads,
            mlp_ratio,
            chunk_size=chunk_size,
            init=init,
            condition_channels=condition_channels,
        )
        self.num_points = num_points
        self.num_projections = num_projections


class Nystromformer(MixerBackbone):
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
        chunk_size: `None`; any other value is refused.
        init: How parameters start, see `nn.initialization`: `"scaled"`, or `"paper"` as
            published.
        condition_channels: Conditions `u` of each graph that modulate the norms of
            the blocks, see `nn.ResidualBlock`; 0 for none.

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

    shown = ("num_layers", "heads", "num_landmarks")

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
        condition_channels: int = 0,
    ) -> None:
        super().__init__(
            lambda: NystromAttention(hidden_channels, heads, num_landmarks, init),
            in_channels,
            hidden_channels,
            out_channels,
            num_layers,
            heads,
            mlp_ratio,
            chunk_size=chunk_size,
            init=init,
            condition_channels=condition_channels,
        )
        self.num_landmarks = num_landmarks


class Reformer(MixerBackbone):
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
        chunk_size: `None`; any other value is refused.
        init: How parameters start, see `nn.initialization`: `"scaled"`, or `"paper"` as
            published.
        condition_channels: Conditions `u` of each graph that modulate the norms of
            the blocks, see `nn.ResidualBlock`; 0 for none.

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

    shown = ("num_layers", "heads", "num_buckets", "attention_chunk", "num_rounds")

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
        condition_channels: int = 0,
    ) -> None:
        super().__init__(
            lambda: LSHAttention(
                hidden_channels, heads, num_buckets, attention_chunk, num_rounds, init
            ),
            in_channels,
            hidden_channels,
            out_channels,
            num_layers,
            heads,
            mlp_ratio,
            chunk_size=chunk_size,
            init=init,
            condition_channels=condition_channels,
        )
        self.num_buckets = num_buckets
        self.attention_chunk = attention_chunk
        self.num_rounds = num_rounds
