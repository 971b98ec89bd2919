"""The backbone of the transformers."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor, nn

from torch_geometric_flare.nn.backbone import Backbone
from torch_geometric_flare.nn.block import ResidualBlock
from torch_geometric_flare.nn.checks import check_heads, check_positive
from torch_geometric_flare.nn.dense.residual_mlp import ResidualMLP, pointwise_mlp
from torch_geometric_flare.nn.initialization import Init, check_init
from torch_geometric_flare.nn.layout import Batch

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class WholeBackbone(Backbone):
    r"""Pre-norm blocks of a mixer that needs all points of a graph at once.

    Args:
        in_channels: Width of the input.
        hidden_channels: Width $C$ of the hidden features.
        out_channels: Fields to predict.
        num_layers: Number of blocks.
        heads: Attention heads of each block.
        mlp_ratio: Inner over outer width $r$ of each block's MLP.
        chunk_size: `None`; any other value is refused.
        mixer: Makes the mixer of one block.
        init: How parameters start, see `nn.initialization`: `"scaled"`, or `"paper"` as
            published.

    Shapes:
        - input: $[N, C_\text{in}]$, `batch` $[N]$
        - output: $[N, C_\text{out}]$

    Raises:
        ValueError: If a size is not positive, `heads` does not divide
            `hidden_channels`, or `chunk_size` is given.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int,
        heads: int,
        mlp_ratio: int,
        chunk_size: int | None,
        mixer: Callable[[], nn.Module],
        init: Init = "scaled",
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
        self.init = check_init(init)
        self._refuse_parts("chunk_size", chunk_size)

        width = hidden_channels
        self.lift = ResidualMLP(in_channels, width, width, 2, input_residual=False)
        self.blocks = nn.ModuleList(
            ResidualBlock(
                width,
                mixer(),
                pointwise_mlp(width, mlp_ratio * width, width, nn.GELU(), init),
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = ResidualMLP(width, width, out_channels, 2, output_residual=False)
        self._reset_lift()

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
                f"{name} is {value!r}, but {type(self).__name__} needs all points of "
                "a graph at once: pass None, or take a model such as FLARE"
            )

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, {self.hidden_channels}, "
            f"{self.out_channels}, num_layers={self.num_layers}, heads={self.heads})"
        )
