"""The vanilla transformer."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from torch_geometric_flare.nn.attention.softmax_attention import SoftmaxAttention
from torch_geometric_flare.nn.backbone import Backbone
from torch_geometric_flare.nn.block import ResidualBlock
from torch_geometric_flare.nn.checks import check_heads, check_positive
from torch_geometric_flare.nn.dense.residual_mlp import ResidualMLP, pointwise_mlp
from torch_geometric_flare.nn.layout import Batch

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Transformer(Backbone):
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
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            hidden_channels=hidden_channels,
            out_channels=out_channels,
            num_layers=num_layers,
            heads=heads,
            mlp_ratio=mlp_ratio,
        )
        check_heads(hidden_channels, heads)
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.out_channels = out_channels
        self.num_layers = num_layers
        self.heads = heads
        self.mlp_ratio = mlp_ratio
        self.chunk_size = chunk_size
        self._refuse_parts("chunk_size", chunk_size)

        width = hidden_channels
        self.lift = ResidualMLP(in_channels, width, width, 2, input_residual=False)
        self.blocks = nn.ModuleList(
            ResidualBlock(
                width,
                SoftmaxAttention(width, heads),
                pointwise_mlp(width, mlp_ratio * width, width, nn.GELU()),
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = ResidualMLP(width, width, out_channels, 2, output_residual=False)

    def forward(
        self,
        x: Tensor,
        batch: Batch = None,
        batch_size: int | None = None,
        group: "ProcessGroup | None" = None,
    ) -> Tensor:
        r"""Predict the fields at every point.

        Args:
            x: Features of the points, normalised coordinates included.
            batch: Graph of each point, sorted; `None` for a single graph. A
                `PointBatch` says that the rows of `x` are in its order.
            batch_size: Number of graphs, where trailing ones may be empty.
            group: `None`: all points must be here.

        Shapes:
            - `x`: $[N, C_\text{in}]$
            - `batch`: $[N]$

        Returns:
            $[N, C_\text{out}]$. Points of one graph never depend on another graph.

        Raises:
            ValueError: If the width of `x` is not `in_channels`, `batch` is unsorted,
                of another length or out of range, or `chunk_size` or `group` is given.
        """
        self._refuse_parts("chunk_size", self.chunk_size)
        self._refuse_parts("group", group)
        return super().forward(x, batch, batch_size)

    def _refuse_parts(self, name: str, value: object) -> None:
        if value is not None:
            raise ValueError(
                f"{name} is {value!r}, but {type(self).__name__} attends among all "
                "points of a graph at once: pass None, or take a model such as FLARE"
            )

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, {self.hidden_channels}, "
            f"{self.out_channels}, num_layers={self.num_layers}, heads={self.heads})"
        )
