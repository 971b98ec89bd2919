"""Physics attention whose maps are convolutions, for the points of one grid."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from torch_geometric_flare.functional import PointBatch
from torch_geometric_flare.nn.attention.slice_attention import SliceAttention
from torch_geometric_flare.nn.checks import check_grid, check_points
from torch_geometric_flare.nn.initialization import Init
from torch_geometric_flare.nn.layout import Batch, point_layout

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

# The range of the temperatures in the reference implementation.
_COLDEST, _HOTTEST = 0.1, 5.0


class GridPhysicsAttention(SliceAttention):
    r"""Physics attention on a 2-D grid, with convolutions in place of linear maps.

    From Transolver, [arXiv 2402.02366](https://arxiv.org/abs/2402.02366), in the form
    for structured meshes. As `PhysicsAttention`, but $p$ and $f$ are two convolutions
    of $x$ with kernels of 3 × 3 and zero padding, and the temperatures are
    $\min(\max(\tau, 0.1), 5)$.

    A point sees its neighbours in the grid, so no part of a graph can be encoded by
    itself: there is no `encode`, and no computation in chunks, on points spread over
    processes, or from file to file. Each graph must have the points of the whole grid.

    Args:
        channels: Width $C$ of input and output.
        grid: Rows $H$ and columns $W$ of the grid; point $(i, j)$ is row $iW + j$ of
            its graph.
        heads: Attention heads.
        num_slices: Slices $G$ of each head.
        head_channels: Width $D$ of a head; by default `channels // heads`.
        init: How parameters start, see `nn.initialization`: `"scaled"`, or `"paper"` as
            published.

    Shapes:
        - input: $[N, C]$, `batch` $[N]$
        - output: $[N, C]$

    Raises:
        ValueError: If a size is not positive, `grid` is no pair of sizes, or
            `head_channels` is not given and `channels` is not divisible by `heads`.

    Examples:
        >>> attention = GridPhysicsAttention(16, (8, 5), heads=4, num_slices=32)
        >>> attention(torch.randn(40, 16)).shape
        torch.Size([40, 16])
    """

    def __init__(
        self,
        channels: int,
        grid: tuple[int, int],
        heads: int = 8,
        num_slices: int = 64,
        head_channels: int | None = None,
        init: Init = "scaled",
    ) -> None:
        super().__init__(channels, heads, num_slices, head_channels, init)
        self.grid = check_grid(grid)
        width = self.heads * self.head_channels
        self.point = nn.Conv2d(channels, width, kernel_size=3, padding=1)
        self.feature = nn.Conv2d(channels, width, kernel_size=3, padding=1)
        self.reset_parameters()

    def forward(
        self,
        x: Tensor,
        batch: Batch = None,
        batch_size: int | None = None,
        group: "ProcessGroup | None" = None,
    ) -> Tensor:
        """Mix the points of each graph.

        Args:
            x: Features of the points.
            batch: Graph of each point, sorted; `None` for a single graph; or the
                layout.
            batch_size: Number of graphs, where trailing ones may be empty.
            group: Must be `None`: points cannot be spread over processes.

        Shapes:
            - `x`: $[N, C]$
            - `batch`: $[N]$

        Returns:
            $[N, C]$

        Raises:
            ValueError: If a graph is neither empty nor of the points of the grid,
                `group` is given, the width of `x` is not `channels`, or `batch` is
                unsorted, of another length, or out of range.
        """
        if group is not None:
            raise ValueError(
                "group is given, but the convolutions of GridPhysicsAttention see all "
                "points of a grid: pass whole graphs and no group"
            )
        check_points(x, self.channels)
        layout = point_layout(self, x, batch, batch_size)
        self._check_sizes(layout)
        rows, columns = self.grid
        # Whole grids have one size, so rows are in the batch's own order.
        image = x.view(x.size(0) // (rows * columns), rows, columns, self.channels)
        image = image.permute(0, 3, 1, 2)  # [B, C, H, W]
        point, feature = (
            self._split_heads(conv(image).permute(0, 2, 3, 1).flatten(0, 2))
            for conv in (self.point, self.feature)
        )
        y: Tensor = self.out(self.attend(point, feature, layout).flatten(-2))
        return y

    def _check_sizes(self, layout: PointBatch) -> None:
        rows, columns = self.grid
        for graph, size in enumerate(layout.sizes):
            if size not in (0, rows * columns):
                raise ValueError(
                    f"graph {graph} has {size} points, expected {rows * columns}: "
                    f"convolutions bind this module to the grid ({rows}, {columns}); "
                    "pass whole grids in row-major order, or build it for this grid"
                )

    def _temperatures(self) -> Tensor:
        return self.temperature.clamp(_COLDEST, _HOTTEST)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.channels}, {self.grid}, heads={self.heads}, "
            f"num_slices={self.num_slices})"
        )
