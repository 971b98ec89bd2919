"""The DeepONet."""

import torch
from torch import Tensor, nn
from torch_geometric.nn import MLP

from torch_geometric_flare.functional import PointBatch
from torch_geometric_flare.nn.checks import check_points, check_positive
from torch_geometric_flare.nn.dense.residual_mlp import Activation, resolve_activation
from torch_geometric_flare.nn.layout import Batch, point_layout


class DeepONet(nn.Module):
    r"""The deep operator network: a branch over sensors and a trunk over coordinates.

    From [arXiv 1910.03193](https://arxiv.org/abs/1910.03193), unstacked. The input of
    the branch is the input function at fixed sensors $s_1, \ldots, s_m$ of a graph, the
    input of the trunk the coordinates $p_i$ of one point. Field $c$ at that point is

    $$y_{ic} = \sum_{k=1}^{C} b_{ck}(x_{s_1}, \ldots, x_{s_m})\, t_k(p_i) + \beta_c$$

    $b$ and $t$ are MLPs. As in the paper, the activation also follows the last layer of
    $t$. All fields share the functions $t_k$.

    The sensors are `num_sensors` evenly spaced rows of each graph. The branch takes all
    columns of $x$ there: on a fixed grid the features, on a body-fitted mesh the
    coordinates, which define the shape. The trunk takes the first `pos_channels`
    columns, which are the coordinates in the samples of this package.

    Limitations: every graph must have `num_points` points, and row $i$ must be the same
    location in each of them, as on one grid or for corresponding points. Points in
    another order, random subsets and a different mesh for each sample are not
    supported, nor are `chunk_size`, `group` and `predict_stream`. The network does not
    see details between the sensors. Each field is a sum of $C$ functions of the
    coordinates that are the same for all samples, so steep moving fronts need a large
    $C$.

    Args:
        in_channels: Width of the input.
        hidden_channels: Width $C$ of the hidden layers and number of functions $t_k$.
        out_channels: Number of fields to predict.
        num_points: Number of points of each graph.
        num_sensors: Number of sensors $m$; `None` for all points.
        pos_channels: Number of dimensions of the coordinates.
        num_layers: Number of hidden layers of the branch and of the trunk.
        act: Activation; `"gelu"` is the tanh approximation.

    Shapes:
        - input: $[N, C_\text{in}]$, `batch` $[N]$
        - output: $[N, C_\text{out}]$

    Raises:
        ValueError: If a size is not positive, `num_sensors` exceeds `num_points`, or
            `pos_channels` exceeds `in_channels`.

    Examples:
        >>> model = DeepONet(3, 32, 1, num_points=500, num_sensors=100)
        >>> model(torch.randn(500, 3)).shape
        torch.Size([500, 1])
    """

    sensors: Tensor

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_points: int,
        num_sensors: int | None = None,
        pos_channels: int = 2,
        num_layers: int = 3,
        act: Activation = "gelu",
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            hidden_channels=hidden_channels,
            out_channels=out_channels,
            num_points=num_points,
            num_sensors=1 if num_sensors is None else num_sensors,
            pos_channels=pos_channels,
            num_layers=num_layers,
        )
        if num_sensors is not None and num_sensors > num_points:
            raise ValueError(
                f"num_sensors is {num_sensors}, but a graph has num_points={num_points}"
                ": pass at most as many, or None for all"
            )
        if pos_channels > in_channels:
            raise ValueError(
                f"pos_channels is {pos_channels}, but in_channels is {in_channels}: "
                "the first columns of x must be the coordinates"
            )
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.out_channels = out_channels
        self.num_points = num_points
        self.num_sensors = num_sensors
        self.pos_channels = pos_channels
        self.num_layers = num_layers
        self.__dict__["act"] = act  # do not register it as a module

        sensors = num_points if num_sensors is None else num_sensors
        hidden = [hidden_channels] * num_layers
        self.register_buffer("sensors", torch.arange(sensors) * num_points // sensors)
        self.branch = MLP(
            [sensors * in_channels, *hidden, out_channels * hidden_channels],
            act=resolve_activation(act),
            norm=None,
        )
        self.trunk = MLP(
            [pos_channels, *hidden, hidden_channels],
            act=resolve_activation(act),
            norm=None,
            plain_last=False,
        )
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def reset_parameters(self) -> None:
        """Reset parameters."""
        self.branch.reset_parameters()
        self.trunk.reset_parameters()
        nn.init.zeros_(self.bias)

    def forward(
        self, x: Tensor, batch: Batch = None, batch_size: int | None = None
    ) -> Tensor:
        r"""Predict the fields at every point.

        Args:
            x: Features of the points, normalized coordinates first.
            batch: Graph of each point, sorted; `None` for a single graph; or the
                layout.
            batch_size: Number of graphs. Pass it if trailing graphs may be empty.

        Shapes:
            - `x`: $[N, C_\text{in}]$
            - `batch`: $[N]$

        Returns:
            $[N, C_\text{out}]$. Graphs do not affect each other.

        Raises:
            ValueError: If a graph is neither empty nor has `num_points` points, the
                width of `x` is not `in_channels`, or `batch` is unsorted, of another
                length, or out of range.
        """
        check_points(x, self.in_channels)
        self._check_sizes(point_layout(self, x, batch, batch_size))
        # All graphs have the same size, so rows are in batch order.
        graphs = x.view(-1, self.num_points, self.in_channels)
        sensor_values = graphs[:, self.sensors].flatten(1)
        coefficients = self.branch(sensor_values).view(
            -1, self.out_channels, self.hidden_channels
        )
        functions = self.trunk(graphs[..., : self.pos_channels])  # [B, P, C]
        y: Tensor = functions @ coefficients.mT  # [B, P, C_out]
        # Under autocast, the dtype of the product differs from that of the bias.
        return (y + self.bias.to(y.dtype)).flatten(0, 1)

    def _check_sizes(self, layout: PointBatch) -> None:
        for graph, size in enumerate(layout.sizes):
            if size not in (0, self.num_points):
                raise ValueError(
                    f"graph {graph} has {size} points, expected {self.num_points}: the "
                    "branch of this DeepONet requires corresponding points in all "
                    "graphs; pass whole graphs, or build it for this num_points"
                )

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, {self.hidden_channels}, "
            f"{self.out_channels}, num_points={self.num_points}, "
            f"num_sensors={self.num_sensors}, num_layers={self.num_layers})"
        )
