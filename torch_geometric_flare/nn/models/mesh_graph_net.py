"""The MeshGraphNet network."""

import torch
from torch import Tensor, nn
from torch_geometric.nn import MLP
from torch_geometric.nn.inits import reset

from torch_geometric_flare.functional.state import state_dtype
from torch_geometric_flare.nn.checks import (
    check_edges,
    check_length,
    check_points,
    check_positive,
)
from torch_geometric_flare.nn.conv.mesh_graph_conv import MeshGraphConv, normed_mlp
from torch_geometric_flare.nn.dense.residual_mlp import Activation, resolve_activation


class MeshGraphNet(nn.Module):
    r"""The MeshGraphNet surrogate: message passing along the edges of a mesh.

    From *Learning Mesh-Based Simulation with Graph Networks*, [arXiv
    2010.03409](https://arxiv.org/abs/2010.03409). MLPs encode points and edges,
    followed by `num_layers` layers of `MeshGraphConv` and an MLP that decodes the
    points. All MLPs but the last end in a `LayerNorm`.

    A point receives messages from points at most `num_layers` edges away. The network
    supports any graph but needs all its points at once: it does not run in chunks, on
    points distributed over processes, or from file to file. `transforms.MeshEdges`
    creates edges for samples without them.

    Args:
        in_channels: Width of the input.
        hidden_channels: Width of the hidden features.
        out_channels: Number of fields to predict.
        num_layers: Number of message-passing layers.
        mlp_layers: Number of hidden layers of each MLP.
        edge_channels: Width of the features of an edge. For features computed from
            positions, it is the number of dimensions plus one: 3 in 2D, 4 in 3D.
        length_scale: Typical length of an edge in the unit of `pos`. Features computed
            from positions are divided by it.
        act: Activation; `"gelu"` is the tanh approximation.

    Shapes:
        - input: $[N, C_\text{in}]$, `pos` $[N, D]$, `edge_index` $[2, E]$
        - output: $[N, C_\text{out}]$

    Raises:
        ValueError: If a size or `length_scale` is not positive.

    Examples:
        >>> model = MeshGraphNet(3, 32, 1, num_layers=2, edge_channels=3)
        >>> edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> model(torch.randn(3, 3), torch.rand(3, 2), edge_index).shape
        torch.Size([3, 1])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int = 15,
        mlp_layers: int = 2,
        edge_channels: int = 4,
        length_scale: float = 1.0,
        act: Activation = "relu",
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            hidden_channels=hidden_channels,
            out_channels=out_channels,
            num_layers=num_layers,
            mlp_layers=mlp_layers,
            edge_channels=edge_channels,
        )
        check_length(length_scale=length_scale)
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.out_channels = out_channels
        self.num_layers = num_layers
        self.mlp_layers = mlp_layers
        self.edge_channels = edge_channels
        self.length_scale = length_scale
        self.__dict__["act"] = act  # do not register it as a module

        width = hidden_channels
        self.node_encoder = normed_mlp(in_channels, width, mlp_layers, act)
        self.edge_encoder = normed_mlp(edge_channels, width, mlp_layers, act)
        self.layers = nn.ModuleList(
            MeshGraphConv(width, mlp_layers, act) for _ in range(num_layers)
        )
        self.decoder = MLP(
            [*[width] * (mlp_layers + 1), out_channels],
            act=resolve_activation(act),
            norm=None,
        )

    def reset_parameters(self) -> None:
        """Reset parameters."""
        for module in self.children():
            reset(module)

    def forward(
        self,
        x: Tensor,
        pos: Tensor,
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
    ) -> Tensor:
        r"""Predict the fields at every point.

        A batch of graphs is one graph with disconnected components, so no batch vector
        is needed, and a graph does not depend on the rest of the batch.

        Args:
            x: Features of the points.
            pos: Coordinates, in the unit of `length_scale`.
            edge_index: The edges, for a mesh in both directions.
            edge_attr: Features of the edges; `None` for
                $(p_j - p_i, \lVert p_j - p_i \rVert)$ of the edge from $j$ to $i$,
                divided by `length_scale`.

        Shapes:
            - `x`: $[N, C_\text{in}]$
            - `pos`: $[N, D]$
            - `edge_index`: $[2, E]$
            - `edge_attr`: $[E, C_\text{edge}]$

        Returns:
            $[N, C_\text{out}]$

        Raises:
            ValueError: If an argument has another shape, or `edge_index` is not an
                integer tensor.
        """
        check_points(x, self.in_channels)
        check_edges(edge_index)
        if edge_attr is None:
            edge_attr = self._features(x, pos, edge_index)
        check_edges(edge_index, self.edge_channels, edge_attr=edge_attr)
        edges = self.edge_encoder(edge_attr)
        x = self.node_encoder(x)
        for layer in self.layers:
            x, edges = layer(x, edge_index, edges)
        y: Tensor = self.decoder(x)
        return y

    def _features(self, x: Tensor, pos: Tensor, edge_index: Tensor) -> Tensor:
        """Return the relative position and the length of each edge, [E, D + 1]."""
        dimensions = self.edge_channels - 1
        check_points(pos, dimensions, "pos", num_points=x.size(0))
        # Differences of neighbors are small, so compute them in at least float32.
        pos = pos.to(state_dtype(pos.dtype))
        offset = (pos[edge_index[0]] - pos[edge_index[1]]) / self.length_scale
        length = torch.linalg.vector_norm(offset, dim=1, keepdim=True)
        return torch.cat([offset, length], dim=1).to(x.dtype)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, {self.hidden_channels}, "
            f"{self.out_channels}, num_layers={self.num_layers}, "
            f"mlp_layers={self.mlp_layers}, edge_channels={self.edge_channels})"
        )
