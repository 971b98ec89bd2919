"""The message passing of MeshGraphNets."""

import torch
from torch import Tensor, nn
from torch_geometric.nn import MLP, MessagePassing
from torch_geometric.nn.inits import reset

from torch_geometric_flare.nn.checks import check_edges, check_points, check_positive
from torch_geometric_flare.nn.dense.residual_mlp import Activation, resolve_activation


def normed_mlp(
    in_channels: int, channels: int, num_layers: int, act: Activation
) -> nn.Sequential:
    """Return an MLP that ends in a `LayerNorm`.

    Args:
        in_channels: Width of the input.
        channels: Width of the hidden layers and the output.
        num_layers: Number of hidden layers.
        act: Activation.
    """
    widths = [in_channels, *[channels] * (num_layers + 1)]
    mlp = MLP(widths, act=resolve_activation(act), norm=None)
    return nn.Sequential(mlp, nn.LayerNorm(channels))


class MeshGraphConv(MessagePassing):
    r"""Update edges from their end points, then points from the sum of their edges.

    $$e_{ji} \leftarrow e_{ji} + f_e(e_{ji}, x_j, x_i), \qquad
      x_i \leftarrow x_i + f_x\Bigl(x_i, \sum_j e_{ji}\Bigr)$$

    over the edges from $j$ to $i$, from *Learning Mesh-Based Simulation with Graph
    Networks*, [arXiv 2010.03409](https://arxiv.org/abs/2010.03409). Both maps are MLPs
    that end in a `LayerNorm`; both updates use the input features of the layer, and the
    sum is over the updated edges.

    Args:
        channels: Width of the points and of the edges.
        mlp_layers: Number of hidden layers of each MLP.
        act: Activation; `"gelu"` is the tanh approximation.

    Shapes:
        - input: $[N, C]$, `edge_index` $[2, E]$, `edge_attr` $[E, C]$
        - output: $[N, C]$, $[E, C]$

    Raises:
        ValueError: If a size is not positive.
    """

    def __init__(
        self, channels: int, mlp_layers: int = 2, act: Activation = "relu"
    ) -> None:
        super().__init__(aggr="sum")
        check_positive(channels=channels, mlp_layers=mlp_layers)
        self.channels = channels
        self.mlp_layers = mlp_layers
        self.edge_mlp = normed_mlp(3 * channels, channels, mlp_layers, act)
        self.node_mlp = normed_mlp(2 * channels, channels, mlp_layers, act)

    def reset_parameters(self) -> None:
        """Reset parameters."""
        super().reset_parameters()
        reset(self.edge_mlp)
        reset(self.node_mlp)

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the updated points and edges.

        Args:
            x: Features of the points.
            edge_index: The edges.
            edge_attr: Features of the edges.

        Shapes:
            - `x`: $[N, C]$
            - `edge_index`: $[2, E]$
            - `edge_attr`: $[E, C]$

        Raises:
            ValueError: If an argument has another shape, or `edge_index` is not an
                integer tensor.
        """
        check_points(x, self.channels)
        check_edges(edge_index, self.channels, edge_attr=edge_attr)
        edges: Tensor = self.edge_updater(edge_index, x=x, edge_attr=edge_attr)
        summed = self.propagate(edge_index, edges=edges, size=(x.size(0), x.size(0)))
        x = x + self.node_mlp(torch.cat([x, summed], dim=1))
        return x, edges

    def edge_update(self, x_j: Tensor, x_i: Tensor, edge_attr: Tensor) -> Tensor:
        """Return the updated edges."""
        ends = torch.cat([edge_attr, x_j, x_i], dim=1)
        edges: Tensor = edge_attr + self.edge_mlp(ends)
        return edges

    def message(self, edges: Tensor) -> Tensor:
        """Return the message of each edge."""
        return edges

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.channels}, mlp_layers={self.mlp_layers})"
