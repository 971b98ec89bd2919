"""FLARE with a local kernel integral in every block."""

from torch import Tensor, nn

from torch_geometric_flare.nn.backbone import BlockNetwork
from torch_geometric_flare.nn.block import ResidualBlock
from torch_geometric_flare.nn.checks import (
    check_condition_channels,
    check_conditions,
    check_edges,
    check_heads,
    check_layers,
    check_length,
    check_points,
    check_positive,
)
from torch_geometric_flare.nn.conv.flare_conv import FLAREConv
from torch_geometric_flare.nn.conv.local_conv import LocalConv
from torch_geometric_flare.nn.dense.residual_mlp import (
    Activation,
    ResidualMLP,
    head_mlp,
    lift_mlp,
)
from torch_geometric_flare.nn.initialization import Init, check_init
from torch_geometric_flare.nn.layout import Batch, point_layout


class FLAREHybrid(BlockNetwork):
    r"""The FLARE surrogate with a local layer before each global mixer.

    $$x \leftarrow x + \mathrm{LocalConv}(\mathrm{LN}(x)), \qquad
      x \leftarrow x + \mathrm{FLAREConv}(\mathrm{LN}(x)), \qquad
      x \leftarrow x + \mathrm{MLP}(\mathrm{LN}(x))$$

    A variant of FLARE ([arXiv 2508.12594](https://arxiv.org/abs/2508.12594)) for fields
    that vary within a few cells, such as a flow through a rough medium. `LocalConv`
    resolves the neighborhood, so keys and values are single linear maps and the
    pointwise MLP is shallow. The neighborhood is defined by a length, `radius`, and the
    average over it is a quadrature, so a network trained at one resolution can be used
    at another.

    `transforms.RadiusEdges(radius)` creates the edges and weights. Because messages
    pass along edges, the network does not run in chunks, on points distributed over
    processes, or from file to file; `FLARE` does.

    Args:
        in_channels: Width of the input.
        hidden_channels: Width of the hidden features.
        out_channels: Number of fields to predict.
        pos_channels: Number of dimensions of the coordinates `pos`.
        radius: Radius of the neighborhood in the unit of `pos`, about twice the
            distance of neighbors on the coarsest mesh.
        num_layers: Number of blocks.
        heads: Number of attention heads of each block.
        num_latents: Number of latents per head, the rank of each block's global
            operator.
        kv_layers: Number of residual hidden layers of the key and value MLPs; -1 makes
            each a single linear map with a residual.
        mlp_layers: Number of residual hidden layers of each block's pointwise MLP.
        kernel_channels: Width of the hidden layer of the local kernel.
        scale: Scaling factor of the attention scores.
        act: Activation; `"gelu"` is the tanh approximation.
        qk_norm: Whether queries and keys pass a `LayerNorm`.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.
        condition_channels: Conditions `u` of each graph that modulate the norms of
            the blocks, see `nn.ResidualBlock`; 0 for none.

    Shapes:
        - input: $[N, C_\text{in}]$, `pos` $[N, D]$, `edge_index` $[2, E]$,
          `edge_weight` $[E]$, `batch` $[N]$
        - output: $[N, C_\text{out}]$

    Raises:
        ValueError: If a size or `radius` is not positive, or `heads` does not divide
            `hidden_channels`.

    Examples:
        >>> from torch_geometric.data import Data
        >>> from torch_geometric_flare.transforms import RadiusEdges
        >>> data = RadiusEdges(0.2)(Data(pos=torch.rand(500, 2)))
        >>> model = FLAREHybrid(3, 32, 1, pos_channels=2, radius=0.2, num_layers=2)
        >>> x = torch.randn(500, 3)
        >>> model(x, data.pos, data.edge_index, data.edge_weight).shape
        torch.Size([500, 1])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        pos_channels: int,
        radius: float,
        num_layers: int = 4,
        heads: int = 8,
        num_latents: int = 64,
        kv_layers: int = -1,
        mlp_layers: int = 1,
        kernel_channels: int = 32,
        scale: float = 1.0,
        act: Activation = "gelu",
        qk_norm: bool = False,
        init: Init = "scaled",
        condition_channels: int = 0,
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            hidden_channels=hidden_channels,
            out_channels=out_channels,
            pos_channels=pos_channels,
            num_layers=num_layers,
            heads=heads,
            num_latents=num_latents,
            kernel_channels=kernel_channels,
        )
        check_layers(kv_layers=kv_layers, mlp_layers=mlp_layers)
        check_length(radius=radius)
        check_heads(hidden_channels, heads)
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.out_channels = out_channels
        self.pos_channels = pos_channels
        self.radius = radius
        self.num_layers = num_layers
        self.heads = heads
        self.num_latents = num_latents
        self.kv_layers = kv_layers
        self.mlp_layers = mlp_layers
        self.kernel_channels = kernel_channels
        self.scale = scale
        self.__dict__["act"] = act  # do not register it as a module
        self.qk_norm = qk_norm
        self.init = check_init(init)
        self.condition_channels = check_condition_channels(condition_channels)

        width = hidden_channels
        self.lift = lift_mlp(in_channels, width, 2, act)
        self.blocks = nn.ModuleList(
            ResidualBlock(
                width,
                FLAREConv(
                    width,
                    heads=heads,
                    num_latents=num_latents,
                    kv_layers=kv_layers,
                    scale=scale,
                    act=act,
                    qk_norm=qk_norm,
                    init=init,
                ),
                ResidualMLP(width, width, width, mlp_layers, act),
                LocalConv(width, pos_channels, radius, kernel_channels, act),
                condition_channels,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = head_mlp(width, out_channels, 2, act)
        self._reset_lift()

    def forward(
        self,
        x: Tensor,
        pos: Tensor,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
        batch: Batch = None,
        batch_size: int | None = None,
        weight: Tensor | None = None,
        u: Tensor | None = None,
    ) -> Tensor:
        r"""Predict the fields at every point.

        Args:
            x: Features of the points.
            pos: Coordinates, in the unit of `radius`.
            edge_index: Edges to each point from all points within `radius`, including
                itself, as row indices of `x`.
            edge_weight: Area of the source point of each edge; `None` for equal areas.
            batch: Graph of each point, sorted; `None` for a single graph. If it is a
                `PointBatch`, the rows of `x` are in its order.
            batch_size: Number of graphs. Pass it if trailing graphs may be empty.
            weight: Weight of each point, used by the attention; the local layers use
                `edge_weight`.
            u: Conditions of each graph, if the network has `condition_channels`.

        Shapes:
            - `x`: $[N, C_\text{in}]$
            - `pos`: $[N, D]$
            - `edge_index`: $[2, E]$
            - `edge_weight`: $[E]$
            - `batch`, `weight`: $[N]$
            - `u`: $[B, G]$

        Returns:
            $[N, C_\text{out}]$. Graphs do not affect each other.

        Raises:
            ValueError: If an argument has another shape, `edge_index` is not an integer
                tensor, or `batch` is unsorted or out of range, or `u` is missing.
        """
        check_points(x, self.in_channels)
        check_points(pos, self.pos_channels, "pos", num_points=x.size(0))
        check_edges(edge_index, edge_weight=edge_weight)
        layout = point_layout(self, x, batch, batch_size, weight=weight, u=u)
        check_conditions(self, layout.u)
        if layout is not batch:
            x, pos = layout.sort(x), layout.sort(pos)
            if layout.inverse is not None:
                edge_index = layout.inverse[edge_index]
        edges = {"pos": pos, "edge_index": edge_index, "edge_weight": edge_weight}
        y = self.run_blocks(x, layout, edges=edges)
        return y if layout is batch else layout.unsort(y)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, {self.hidden_channels}, "
            f"{self.out_channels}, pos_channels={self.pos_channels}, "
            f"radius={self.radius}, num_layers={self.num_layers}, heads={self.heads}, "
            f"num_latents={self.num_latents})"
        )
