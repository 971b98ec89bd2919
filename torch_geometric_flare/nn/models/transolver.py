"""The Transolver network."""

import torch
from torch import Tensor, nn

from torch_geometric_flare.nn.attention import GridPhysicsAttention, PhysicsAttention
from torch_geometric_flare.nn.backbone import MixerBackbone
from torch_geometric_flare.nn.checks import check_grid
from torch_geometric_flare.nn.dense.residual_mlp import pointwise_mlp
from torch_geometric_flare.nn.initialization import Init


class Transolver(MixerBackbone):
    r"""The Transolver surrogate: attention between learned slices of the points.

    From [arXiv 2402.02366](https://arxiv.org/abs/2402.02366). With $\phi$ the exact
    GELU and $e$ a learned vector,

    $$x \leftarrow W_2\,\phi(W_1 x) + e, \qquad
      x \leftarrow x + \mathrm{attention}(\mathrm{LN}(x)), \qquad
      x \leftarrow x + V_2\,\phi(V_1\,\mathrm{LN}(x))$$

    where the last two form each of `num_layers` blocks, followed by a `LayerNorm` and a
    linear map. The attention is `PhysicsAttention`.

    With `grid`, the attention is `GridPhysicsAttention`, the variant with convolutions
    for one structured mesh. Its points depend on their neighbors, so it does not
    support `chunk_size`, `group` and `predict_stream`.

    Args:
        in_channels: Width of the input.
        hidden_channels: Width of the hidden features.
        out_channels: Number of fields to predict.
        num_layers: Number of blocks.
        heads: Number of attention heads of each block.
        num_slices: Number of slices of each head.
        mlp_ratio: Hidden width of each block's MLP divided by `hidden_channels`.
        grid: Rows and columns of the grid of every graph, in row-major order, for the
            variant with convolutions; `None` for unstructured points.
        chunk_size: Number of points to process at a time in forward and backward, with
            the same result; `None` for all at once. Can be set on an existing model.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.
        condition_channels: Conditions `u` of each graph that modulate the norms of
            the blocks, see `nn.ResidualBlock`; 0 for none.

    Shapes:
        - input: $[N, C_\text{in}]$, `batch` $[N]$
        - output: $[N, C_\text{out}]$

    Raises:
        ValueError: If a size is not positive, `heads` does not divide
            `hidden_channels`, `grid` is not a pair of sizes, or `chunk_size` is given
            along with `grid`.

    Examples:
        >>> model = Transolver(3, 32, 1, num_layers=2, heads=4, num_slices=16)
        >>> model(torch.randn(500, 3)).shape
        torch.Size([500, 1])
        >>> model = Transolver(3, 32, 1, num_layers=2, heads=4, grid=(20, 25))
        >>> model(torch.randn(500, 3)).shape
        torch.Size([500, 1])
    """

    shown: tuple[str, ...] = ("num_layers", "heads", "num_slices")

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
        condition_channels: int = 0,
    ) -> None:
        shape = None if grid is None else check_grid(grid)
        width = hidden_channels

        def mixer() -> nn.Module:
            if shape is None:
                return PhysicsAttention(width, heads, num_slices, init=init)
            return GridPhysicsAttention(width, shape, heads, num_slices, init=init)

        super().__init__(
            mixer,
            in_channels,
            hidden_channels,
            out_channels,
            num_layers,
            heads,
            mlp_ratio,
            lift=lambda: _Lift(in_channels, width),
            lift_layers=-1,
            chunk_size=chunk_size,
            init=init,
            condition_channels=condition_channels,
        )
        self.num_slices = num_slices
        self.grid = shape
        if shape is not None:
            self.shown = (*self.shown, "grid")


class _Lift(nn.Module):
    """The input MLP plus a learned vector at every point."""

    no_weight_decay = ("placeholder",)

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.mlp = pointwise_mlp(in_channels, 2 * channels, channels, nn.GELU())
        self.placeholder = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset parameters."""
        self.mlp.reset_parameters()
        nn.init.uniform_(self.placeholder, 0, 1 / len(self.placeholder))

    def forward(self, x: Tensor) -> Tensor:
        """Lift every point."""
        y: Tensor = self.mlp(x)
        return y + self.placeholder
