"""A kernel integral over the neighborhood of each point."""

import math

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import scatter

from torch_geometric_flare.functional.state import state_dtype
from torch_geometric_flare.nn.checks import (
    check_edges,
    check_length,
    check_points,
    check_positive,
)
from torch_geometric_flare.nn.dense.residual_mlp import (
    Activation,
    reset_linear,
    resolve_activation,
)


class LocalConv(MessagePassing):
    r"""Average the neighborhood of each point with a learned kernel.

    $$x'_i = W_o \frac{\sum_j w_j\, \kappa(r_{ij})\, (W_v x_j) \odot g(r_{ij})}
      {\sum_j w_j\, \kappa(r_{ij})}, \qquad r_{ij} = \frac{p_j - p_i}{R}, \qquad
      \kappa(r) = \max(0, 1 - \lVert r \rVert^2)^2$$

    over the edges from $j$ to $i$. $g$ is an MLP with one hidden layer, and the weight
    $w_j$ is the area (or length, or volume) of point $j$. Both sums are thus
    quadratures of integrals over a ball of radius $R$, truncated at the boundary of the
    domain. On a finer mesh, the layer is the same operator with a smaller quadrature
    error. With a fixed number of neighbors, the operator would change. The window
    $\kappa$ decays smoothly to zero at $R$, which keeps this error small, because
    points do not enter or leave the ball abruptly. Edges longer than $R$ have no
    effect.

    `transforms.RadiusEdges` with the same radius creates the edges, including
    self-loops, and their weights. The layer is a kernel integral as in the graph kernel
    network, [arXiv 2003.03485](https://arxiv.org/abs/2003.03485), with a diagonal
    kernel and, in addition, the weights and the window.

    Args:
        channels: Width of the features.
        pos_channels: Number of dimensions of the coordinates.
        radius: Radius $R$, in the unit of the coordinates.
        kernel_channels: Width of the hidden layer of $g$.
        act: Activation of $g$; `"gelu"` is the tanh approximation.

    Shapes:
        - input: $[N, C]$, `pos` $[N, D]$, `edge_index` $[2, E]$, `edge_weight` $[E]$
        - output: $[N, C]$

    Raises:
        ValueError: If a width or the radius is not positive.

    Examples:
        >>> from torch_geometric.data import Data
        >>> from torch_geometric_flare.transforms import RadiusEdges
        >>> data = RadiusEdges(0.2)(Data(pos=torch.rand(100, 2)))
        >>> conv = LocalConv(16, pos_channels=2, radius=0.2)
        >>> x = torch.randn(100, 16)
        >>> conv(x, data.pos, data.edge_index, data.edge_weight).shape
        torch.Size([100, 16])
    """

    input_maps = ("kernel_in",)

    def __init__(
        self,
        channels: int,
        pos_channels: int,
        radius: float,
        kernel_channels: int = 32,
        act: Activation = "gelu",
    ) -> None:
        super().__init__(aggr="sum")
        check_positive(
            channels=channels,
            pos_channels=pos_channels,
            kernel_channels=kernel_channels,
        )
        check_length(radius=radius)
        self.channels = channels
        self.pos_channels = pos_channels
        self.radius = radius
        self.kernel_channels = kernel_channels
        self.value = nn.Linear(channels, channels)
        self.kernel_in = nn.Linear(pos_channels, kernel_channels)
        self.activation = resolve_activation(act)
        self.kernel_out = nn.Linear(kernel_channels, channels)
        self.out = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset parameters; the kernel starts near one, close to a plain average."""
        super().reset_parameters()
        reset_linear(self.value)
        reset_linear(self.out)
        # The initial kernel must distinguish directions, so its weights are not small.
        bound = 1 / math.sqrt(self.pos_channels)
        nn.init.uniform_(self.kernel_in.weight, -bound, bound)
        nn.init.uniform_(self.kernel_in.bias, -bound, bound)
        bound = 1 / math.sqrt(self.kernel_channels)
        nn.init.uniform_(self.kernel_out.weight, -bound, bound)
        nn.init.ones_(self.kernel_out.bias)
        if hasattr(self.activation, "reset_parameters"):
            self.activation.reset_parameters()

    def forward(
        self,
        x: Tensor,
        pos: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        r"""Average the neighborhood of each point.

        Args:
            x: Features of the points.
            pos: Coordinates in the unit of `radius`. They keep their dtype if `x` has
                lower precision.
            edge_index: Edges to each point from its neighbors and from itself. The
                output of a point without edges is the bias of $W_o$.
            edge_weight: Weight $w_j$ of each edge; `None` for equal weights.

        Shapes:
            - `x`: $[N, C]$
            - `pos`: $[N, D]$
            - `edge_index`: $[2, E]$
            - `edge_weight`: $[E]$

        Returns:
            $[N, C]$

        Raises:
            ValueError: If an argument has another shape, or `edge_index` is not an
                integer tensor.
        """
        check_points(x, self.channels)
        check_points(pos, self.pos_channels, "pos", num_points=x.size(0))
        check_edges(edge_index, edge_weight=edge_weight)
        source, target = edge_index[0], edge_index[1]
        pos = pos.to(state_dtype(pos.dtype))
        offset = (pos[source] - pos[target]) / self.radius
        weight = (1 - offset.square().sum(1)).clamp(min=0).square()
        if edge_weight is not None:
            weight = weight * edge_weight
        total = scatter(weight, target, dim_size=x.size(0), reduce="sum")
        # A point with a total weight of zero gets a sum of zero.
        total = torch.where(total > 0, total, 1.0)
        value = self.value(x)
        hidden = self.activation(self.kernel_in(offset.to(x.dtype)))
        kernel = self.kernel_out(hidden)
        share = (weight / total[target]).to(value.dtype).unsqueeze(1)
        y = self.propagate(edge_index, x=value, kernel=kernel, share=share)
        out: Tensor = self.out(y)
        return out

    def message(self, x_j: Tensor, kernel: Tensor, share: Tensor) -> Tensor:
        """Return the message of each edge."""
        return share * kernel * x_j

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.channels}, pos_channels={self.pos_channels}, "
            f"radius={self.radius})"
        )
