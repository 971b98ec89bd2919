"""Transformers: softmax attention among all points, and three approximations.

Their attention has no mergeable state, so they do not support chunks, points
distributed over processes and `predict_stream`. They accept `chunk_size` like other
models, but only to raise a clear error.
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
    residual MLP lifts each point to the hidden width $C$. Then come `num_layers`
    pre-norm blocks of `SoftmaxAttention` and an MLP of inner width $rC$ with an exact
    GELU, and finally a `LayerNorm` and a residual MLP that predicts the fields:

    $$x \leftarrow x + \mathrm{Attention}(\mathrm{LN}(x)), \qquad
      x \leftarrow x + W_2\,\mathrm{GELU}(W_1\,\mathrm{LN}(x))$$

    **The cost is quadratic.** Each block takes $4N^2C$ operations per graph for its
    scores and values: with $C = 80$, $3 \cdot 10^{10}$ at 10,000 points, $3 \cdot
    10^{12}$ at 100,000 and $3 \cdot 10^{14}$ at a million, where its linear maps and
    its MLP with $r = 4$ take $2 \cdot 10^{11}$. About 10,000 points are practical on a
    CPU and about 100,000 on a GPU; `FLARE` is linear in $N$. The memory is linear.

    Attention among all points has no mergeable state. The model therefore raises an
    error for chunks, points distributed over processes, and `predict_stream`.

    Args:
        in_channels: Width of the input.
        hidden_channels: Width $C$ of the hidden features; 80 in the paper.
        out_channels: Number of fields to predict.
        num_layers: Number of blocks.
        heads: Attention heads of each block; 5 in the paper.
        mlp_ratio: Ratio $r$ of inner to outer width of each block's MLP.
        chunk_size: Must be `None`.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.
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

    All graphs must have `num_points` points in the same order.

    Args:
        in_channels: Width of the input.
        hidden_channels: Width of the hidden features.
        out_channels: Number of fields to predict.
        num_points: Number of points of every graph.
        num_projections: Number of projected keys and values.
        num_layers: Number of blocks.
        heads: Number of attention heads of each block.
        mlp_ratio: Ratio of inner to outer width of each block's MLP.
        chunk_size: Must be `None`.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.
        condition_channels: Conditions `u` of each graph that modulate the norms of
            the blocks, see `nn.ResidualBlock`; 0 for none.

    Shapes:
        - input: $[N, C_\text{in}]$, `batch` $[N]$
        - output: $[N, C_\text{out}]$

    Raises:
        ValueError: See `Transformer` and `LinformerAttention`.

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
        out_channels: Number of fields to predict.
        num_landmarks: Number of landmarks of each graph.
        num_layers: Number of blocks.
        heads: Number of attention heads of each block.
        mlp_ratio: Ratio of inner to outer width of each block's MLP.
        chunk_size: Must be `None`.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.
        condition_channels: Conditions `u` of each graph that modulate the norms of
            the blocks, see `nn.ResidualBlock`; 0 for none.

    Shapes:
        - input: $[N, C_\text{in}]$, `batch` $[N]$
        - output: $[N, C_\text{out}]$

    Raises:
        ValueError: See `Transformer` and `NystromAttention`.

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
        out_channels: Number of fields to predict.
        num_buckets: Number of buckets, even.
        attention_chunk: Number of points per chunk.
        num_rounds: Number of hashing rounds.
        num_layers: Number of blocks.
        heads: Number of attention heads of each block.
        mlp_ratio: Ratio of inner to outer width of each block's MLP.
        chunk_size: Must be `None`.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.
        condition_channels: Conditions `u` of each graph that modulate the norms of
            the blocks, see `nn.ResidualBlock`; 0 for none.

    Shapes:
        - input: $[N, C_\text{in}]$, `batch` $[N]$
        - output: $[N, C_\text{out}]$

    Raises:
        ValueError: See `Transformer` and `LSHAttention`.

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
