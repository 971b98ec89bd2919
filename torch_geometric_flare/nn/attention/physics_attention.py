"""Attention between slices of a point cloud, the mixer of Transolver."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional import (
    PointBatch,
    SumState,
    distributed_merge,
    ragged_sum_decode,
    ragged_sum_encode,
)
from torch_geometric_flare.nn.attention.full_attention import FullAttention
from torch_geometric_flare.nn.checks import check_grid, check_heads, check_positive
from torch_geometric_flare.nn.dense.residual_mlp import reset_truncated
from torch_geometric_flare.nn.initialization import Init, check_init, reset_scoring
from torch_geometric_flare.nn.mixer import PointMixer
from torch_geometric_flare.nn.streaming.stage import Latents, record_state

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

# The range of the temperatures on grids in the reference implementation.
_COLDEST, _HOTTEST = 0.1, 5.0
# Keeps the mean of an empty slice finite.
_EPS = 1e-5
_LEAST_MASS = 1e-30


class _SliceAttention(nn.Module):
    """Base class of `PhysicsAttention` and `GridPhysicsAttention`.

    Subclasses define $p$ and $f$ as linear or convolutional maps of the points.
    """

    no_weight_decay: tuple[str, ...] = ("temperature",)
    in_channels: int | tuple[int, int]

    def __init__(
        self,
        channels: int,
        heads: int,
        num_slices: int,
        head_channels: int | None,
        init: Init = "scaled",
    ) -> None:
        super().__init__()
        check_positive(channels=channels, heads=heads, num_slices=num_slices)
        if head_channels is None:
            head_channels = check_heads(channels, heads, "channels")
        check_positive(head_channels=head_channels)
        self.channels = self.in_channels = channels
        self.heads = heads
        self.num_slices = num_slices
        self.head_channels = head_channels
        self.init = check_init(init)

        self.temperature = nn.Parameter(torch.empty(heads))
        self.slice = nn.Linear(head_channels, num_slices)
        self.query = nn.Linear(head_channels, head_channels, bias=False)
        self.key = nn.Linear(head_channels, head_channels, bias=False)
        self.value = nn.Linear(head_channels, head_channels, bias=False)
        self.out = nn.Linear(heads * head_channels, channels)

    def reset_parameters(self) -> None:
        """Reset parameters."""
        nn.init.constant_(self.temperature, 0.5)
        for name, module in self.named_children():
            if isinstance(module, nn.Linear):
                reset_truncated(module)
                if self.init == "scaled" and name in ("point", "query", "key"):
                    reset_scoring(module)
            elif isinstance(module, nn.Conv2d):
                # The reference implementation keeps PyTorch's initialization here.
                module.reset_parameters()
        # Slices are initialized orthogonally.
        nn.init.orthogonal_(self.slice.weight)

    def process(self, state: SumState, latents: Latents = ()) -> Latents:
        """Let the slices of each graph attend to each other, $[B, H, G, D]$."""
        token = self.tokens(state)
        return (self.slice_attention(token) @ self.value(token),)

    def tokens(self, state: SumState, dtype: torch.dtype | None = None) -> Tensor:
        """Return the mean of each slice, $[B, H, G, D]$, in the weights' dtype."""
        # Slice weights sum to the point weights: one each, or areas in any unit.
        mass = state.weight.sum(dim=-1, keepdim=True)
        mass = torch.where(mass < _LEAST_MASS, 1.0, mass).clamp(max=1)
        token = state.total / (state.weight + _EPS * mass).unsqueeze(-1)
        return token.to(dtype or self.query.weight.dtype)

    def slice_attention(self, token: Tensor) -> Tensor:
        """Return the attention weights between slices, $[B, H, G, G]$."""
        scores = self.query(token) @ self.key(token).mT / self.head_channels**0.5
        weights: Tensor = scores.softmax(dim=-1)
        return weights

    def attend(
        self,
        point: Tensor,
        feature: Tensor,
        layout: PointBatch,
        group: "ProcessGroup | None" = None,
    ) -> Tensor:
        r"""Compute the attention between the maps of $x$ and the output map.

        Args:
            point: Features $p$ that determine the slices of each point, in the order of
                the layout.
            feature: Features $f$ that are pooled into the slices.
            layout: The graphs.
            group: Process group over which the points of these graphs are distributed.

        Shapes:
            - `point`, `feature`: $[N, H, D]$

        Returns:
            $y$ of shape $[N, H, D]$.
        """
        weights = self.slice_weights(point)
        state = distributed_merge(ragged_sum_encode(weights, feature, layout), group)
        record_state(state)
        (token,) = self.process(state)
        return ragged_sum_decode(weights, token, layout)

    def slice_weights(self, point: Tensor) -> Tensor:
        r"""Return the slice weights $w$ of each point.

        Args:
            point: Features $p$ that determine the slices of each point.

        Shapes:
            - `point`: $[N, H, D]$

        Returns:
            $[N, H, G]$, summing to one over the slices.
        """
        logits = self.slice(point) / self._temperatures().unsqueeze(-1)
        weights: Tensor = logits.softmax(dim=-1)
        return weights

    def _temperatures(self) -> Tensor:
        """Return the temperature of each head, [H]."""
        return self.temperature

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.reshape(x.size(0), self.heads, self.head_channels)


class PhysicsAttention(_SliceAttention, PointMixer):
    r"""Physics attention: points pool into slices, and the slices attend to each other.

    From Transolver, [arXiv 2402.02366](https://arxiv.org/abs/2402.02366), in the form
    for unstructured points. In each head, with $p$ and $f$ two linear maps of $x$,

    $$w_n = \mathrm{softmax}_G(W_s p_n / \tau), \qquad
      t_g = \frac{\sum_n w_{ng} f_n}{\sum_n w_{ng} + 10^{-5}}, \qquad
      t' = \mathrm{softmax}(t W_q (t W_k)^\top / \sqrt{D})\, t W_v, \qquad
      y_n = \sum_g w_{ng} t'_g$$

    and a linear map of $y$ is the output. Points with weights $a_n$ contribute $a_n
    w_n$ to both sums, and if $\sum_n a_n < 1$, the $10^{-5}$ is multiplied by it. The
    maps $W_s, W_q, W_k, W_v$ are shared by the heads; the temperature $\tau$ is not.
    Graphs of a batch, which may differ in size, do not interact. The cost is $O(NG)$.

    Args:
        channels: Width $C$ of input and output.
        heads: Number of attention heads $H$.
        num_slices: Number of slices $G$ of each head.
        head_channels: Width $D$ of a head. Default: `channels // heads`.
        chunk_size: Number of points to process at a time in forward and backward, with
            the same result; `None` for all at once. Can be set on an existing module.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.

    Shapes:
        - input: $[N, C]$, `batch` $[N]$
        - output: $[N, C]$

    Raises:
        ValueError: If a size is not positive, or `head_channels` is not given and
            `channels` is not divisible by `heads`.

    Examples:
        >>> attention = PhysicsAttention(16, heads=4, num_slices=32)
        >>> batch = torch.tensor([0] * 30 + [1] * 70)
        >>> attention(torch.randn(100, 16), batch).shape
        torch.Size([100, 16])
    """

    def __init__(
        self,
        channels: int,
        heads: int = 8,
        num_slices: int = 64,
        head_channels: int | None = None,
        chunk_size: int | None = None,
        init: Init = "scaled",
    ) -> None:
        super().__init__(channels, heads, num_slices, head_channels, init)
        check_positive(chunk_size=chunk_size)
        self.chunk_size = chunk_size
        width = self.heads * self.head_channels
        self.point = nn.Linear(channels, width)
        self.feature = nn.Linear(channels, width)
        self.reset_parameters()

    def encode_rows(
        self, x: Tensor, layout: PointBatch, latents: Latents = ()
    ) -> SumState:
        r"""Pool points into slices: $\sum w f$ $[B, H, G, D]$, $\sum w$ $[B, H, G]$."""
        weights = self.slice_weights(self._split_heads(self.point(x)))
        return ragged_sum_encode(weights, self._split_heads(self.feature(x)), layout)

    def decode_rows(self, latents: Latents, x: Tensor, layout: PointBatch) -> Tensor:
        """Average the tokens at each point by its slice weights."""
        weights = self.slice_weights(self._split_heads(self.point(x)))
        y: Tensor = self.out(ragged_sum_decode(weights, latents[0], layout).flatten(-2))
        return y

    def mix_rows(
        self, x: Tensor, layout: PointBatch, group: "ProcessGroup | None"
    ) -> Tensor:
        """Pool and scatter with the same weights."""
        point, feature = map(self._split_heads, (self.point(x), self.feature(x)))
        y: Tensor = self.out(self.attend(point, feature, layout, group).flatten(-2))
        return y

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.channels}, heads={self.heads}, "
            f"num_slices={self.num_slices})"
        )


class GridPhysicsAttention(_SliceAttention, FullAttention):
    r"""Physics attention on a 2D grid, with convolutions instead of linear maps.

    From Transolver, [arXiv 2402.02366](https://arxiv.org/abs/2402.02366), in the form
    for structured meshes. It equals `PhysicsAttention`, but $p$ and $f$ are two
    convolutions of $x$ with kernels of 3 × 3 and zero padding, and the temperatures are
    $\min(\max(\tau, 0.1), 5)$.

    A point depends on its neighbors in the grid, so parts of a graph cannot be encoded
    separately: there is no `encode`, and no computation in chunks, on points
    distributed over processes, or from file to file. Each graph must have all points of
    the grid.

    Args:
        channels: Width $C$ of input and output.
        grid: Rows $H$ and columns $W$ of the grid; point $(i, j)$ is row $iW + j$ of
            its graph.
        heads: Number of attention heads.
        num_slices: Number of slices $G$ of each head.
        head_channels: Width $D$ of a head. Default: `channels // heads`.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.

    Shapes:
        - input: $[N, C]$, `batch` $[N]$
        - output: $[N, C]$

    Raises:
        ValueError: If a size is not positive, `grid` is not a pair of sizes, or
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

    def mix_rows(self, x: Tensor, layout: PointBatch) -> Tensor:
        """Mix the points of each graph, see `FullAttention`."""
        rows, columns = self.grid
        # All graphs have the same size, so rows are in batch order.
        image = x.view(x.size(0) // (rows * columns), rows, columns, self.channels)
        image = image.permute(0, 3, 1, 2)  # [B, C, H, W]
        point, feature = (
            self._split_heads(conv(image).permute(0, 2, 3, 1).flatten(0, 2))
            for conv in (self.point, self.feature)
        )
        y: Tensor = self.out(self.attend(point, feature, layout).flatten(-2))
        return y

    def check_sizes(self, layout: PointBatch) -> None:
        """Raise `ValueError` if a graph is neither empty nor the whole grid."""
        rows, columns = self.grid
        for graph, size in enumerate(layout.sizes):
            if size not in (0, rows * columns):
                raise ValueError(
                    f"graph {graph} has {size} points, expected {rows * columns}: "
                    f"the convolutions require the grid ({rows}, {columns}); "
                    "pass whole grids in row-major order, or build it for this grid"
                )

    def _temperatures(self) -> Tensor:
        return self.temperature.clamp(_COLDEST, _HOTTEST)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.channels}, {self.grid}, heads={self.heads}, "
            f"num_slices={self.num_slices})"
        )
