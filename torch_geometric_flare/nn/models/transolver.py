"""The Transolver network."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from torch_geometric_flare.nn.attention import GridPhysicsAttention, PhysicsAttention
from torch_geometric_flare.nn.backbone import Backbone
from torch_geometric_flare.nn.block import ResidualBlock
from torch_geometric_flare.nn.checks import check_grid, check_heads, check_positive
from torch_geometric_flare.nn.dense.residual_mlp import ResidualMLP, pointwise_mlp
from torch_geometric_flare.nn.initialization import Init, check_init
from torch_geometric_flare.nn.layout import Batch

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Transolver(Backbone):
    r"""The Transolver surrogate: attention between learned slices of the points.

    From [arXiv 2402.02366](https://arxiv.org/abs/2402.02366). With $\phi$ the exact
    GELU and $e$ a learned vector,

    $$x \leftarrow W_2\,\phi(W_1 x) + e, \qquad
      x \leftarrow x + \mathrm{attention}(\mathrm{LN}(x)), \qquad
      x \leftarrow x + V_2\,\phi(V_1\,\mathrm{LN}(x))$$

    the last two in each of `num_layers` blocks, then a `LayerNorm` and a linear map.
    The attention is `PhysicsAttention`.

    With `grid` it is `GridPhysicsAttention`: the variant with convolutions, for one
    structured mesh. Its points see their neighbours, so it has neither `chunk_size`
    nor `group` nor `predict_stream`.

    Args:
        in_channels: Width of the input.
        hidden_channels: Width of the hidden features.
        out_channels: Fields to predict.
        num_layers: Number of blocks.
        heads: Attention heads of each block.
        num_slices: Slices of each head.
        mlp_ratio: Hidden width of each block's MLP over `hidden_channels`.
        grid: Rows and columns of the grid that every graph is, in row-major order, for
            the variant with convolutions; `None` for points of any kind.
        chunk_size: Points to compute at a time, forward and backward, with the same
            result; `None` for all at once. May be set on an existing model.
        init: How parameters start, see `nn.initialization`: `"scaled"`, or `"paper"` as
            published.

    Shapes:
        - input: $[N, C_\text{in}]$, `batch` $[N]$
        - output: $[N, C_\text{out}]$

    Raises:
        ValueError: If a size is not positive, `heads` does not divide
            `hidden_channels`, `grid` is no pair of sizes, or `chunk_size` is given
            along with `grid`.

    Examples:
        >>> model = Transolver(3, 32, 1, num_layers=2, heads=4, num_slices=16)
        >>> model(torch.randn(500, 3)).shape
        torch.Size([500, 1])
        >>> model = Transolver(3, 32, 1, num_layers=2, heads=4, grid=(20, 25))
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
        num_slices: int = 64,
        mlp_ratio: int = 1,
        grid: tuple[int, int] | None = None,
        chunk_size: int | None = None,
        init: Init = "scaled",
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            hidden_channels=hidden_channels,
            out_channels=out_channels,
            num_layers=num_layers,
            heads=heads,
            num_slices=num_slices,
            mlp_ratio=mlp_ratio,
            chunk_size=1 if chunk_size is None else chunk_size,
        )
        check_heads(hidden_channels, heads)
        width = hidden_channels
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.out_channels = out_channels
        self.num_layers = num_layers
        self.heads = heads
        self.num_slices = num_slices
        self.mlp_ratio = mlp_ratio
        self.grid = None if grid is None else check_grid(grid)
        self.chunk_size = chunk_size
        self.init = check_init(init)
        self._refuse_parts("chunk_size", chunk_size)

        self.lift = _Lift(in_channels, width)
        self.blocks = nn.ModuleList(
            ResidualBlock(
                width,
                PhysicsAttention(width, heads, num_slices, init=init)
                if self.grid is None
                else GridPhysicsAttention(
                    width, self.grid, heads, num_slices, init=init
                ),
                pointwise_mlp(width, mlp_ratio * width, width, nn.GELU(), init),
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        # A single linear map, drawn as all others are.
        self.head = ResidualMLP(width, width, out_channels, -1, output_residual=False)
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
            group: Processes that hold the other points of these graphs, as of
                `Backbone`; `None` if all points are here, as they must be on a grid.

        Shapes:
            - `x`: $[N, C_\text{in}]$
            - `batch`: $[N]$

        Returns:
            $[N, C_\text{out}]$. Points of one graph never depend on another graph.

        Raises:
            ValueError: As `Backbone`; with `grid` also if a graph with points has not
                those of the whole grid, or `chunk_size` or `group` is given.
            RuntimeError: If a process of `group` is lost.
        """
        self._refuse_parts("chunk_size", self.chunk_size)
        self._refuse_parts("group", group)
        return super().forward(x, batch, batch_size, group)

    def _refuse_parts(self, name: str, value: object) -> None:
        if self.grid is not None and value is not None:
            raise ValueError(
                f"{name} is {value!r}, but the convolutions of this Transolver see all "
                f"points of grid={self.grid}: pass None, or build it without grid"
            )

    def __repr__(self) -> str:
        grid = "" if self.grid is None else f", grid={self.grid}"
        return (
            f"{type(self).__name__}({self.in_channels}, {self.hidden_channels}, "
            f"{self.out_channels}, num_layers={self.num_layers}, heads={self.heads}, "
            f"num_slices={self.num_slices}{grid})"
        )


class _Lift(nn.Module):
    """The input MLP, and a learned vector that is added at every point."""

    no_weight_decay = ("placeholder",)

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.mlp = pointwise_mlp(in_channels, 2 * channels, channels, nn.GELU())
        self.placeholder = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        self.mlp.reset_parameters()
        nn.init.uniform_(self.placeholder, 0, 1 / len(self.placeholder))

    def forward(self, x: Tensor) -> Tensor:
        """Lift every point by itself."""
        y: Tensor = self.mlp(x)
        return y + self.placeholder
