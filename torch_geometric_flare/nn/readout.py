"""Graph-level prediction."""

from torch import Tensor, nn

from torch_geometric_flare.functional import State
from torch_geometric_flare.nn.checks import check_positive
from torch_geometric_flare.nn.conv.flare_conv import FLAREConv
from torch_geometric_flare.nn.dense.residual_mlp import Activation, ResidualMLP
from torch_geometric_flare.nn.layout import Batch


class LatentReadout(nn.Module):
    r"""Predict graph-level quantities, such as the drag of a car, from points.

    `FLAREConv` gathers the points of each graph into $M$ latents, from which an MLP
    predicts:

    $$Z = \mathrm{softmax}_N(QK^\top)V, \qquad
      y = \mathrm{MLP}(\mathrm{LN}(W Z_1), \ldots, \mathrm{LN}(W Z_M))$$

    This is attention pooling, so graphs may have any number of points. Because states
    merge, the result is exact for graphs of unequal sizes, in chunks, and for parts of
    a graph that are encoded separately: `decode(encode(a).merge(encode(b)))`.

    Args:
        in_channels: Width of the input.
        hidden_channels: Width of the latents and of the MLP.
        out_channels: Number of quantities to predict.
        heads: Number of attention heads.
        num_latents: Number of latents $M$ per head.
        kv_layers: Number of residual hidden layers of the key and value MLPs.
        mlp_layers: Number of residual hidden layers of the MLP.
        act: Activation; `"gelu"` is the tanh approximation.
        chunk_size: Number of points to process at a time in forward and backward, with
            the same result; `None` for all at once. Can be set on an existing module.

    Shapes:
        - input: $[N, C_\text{in}]$, `batch` $[N]$
        - output: $[B, C_\text{out}]$

    Raises:
        ValueError: If a size is not positive or `heads` does not divide
            `hidden_channels`.

    Examples:
        >>> readout = LatentReadout(3, 32, 1)
        >>> batch = torch.tensor([0] * 30 + [1] * 70)
        >>> readout(torch.randn(100, 3), batch).shape
        torch.Size([2, 1])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        heads: int = 8,
        num_latents: int = 16,
        kv_layers: int = 3,
        mlp_layers: int = 1,
        act: Activation = "gelu",
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        check_positive(hidden_channels=hidden_channels)
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.out_channels = out_channels
        self.heads = heads
        self.num_latents = num_latents
        self.conv = FLAREConv(
            in_channels,
            hidden_channels,
            heads=heads,
            num_latents=num_latents,
            kv_layers=kv_layers,
            act=act,
            chunk_size=chunk_size,
        )
        self.norm = nn.LayerNorm(hidden_channels)
        self.mlp = ResidualMLP(
            num_latents * hidden_channels,
            hidden_channels,
            out_channels,
            mlp_layers,
            act,
            input_residual=False,
            output_residual=False,
            init="scaled",
        )

    @property
    def chunk_size(self) -> int | None:
        """Number of points to process at a time; `None` for all at once."""
        return self.conv.chunk_size

    @chunk_size.setter
    def chunk_size(self, chunk_size: int | None) -> None:
        self.conv.chunk_size = chunk_size

    def reset_parameters(self) -> None:
        """Reset parameters."""
        self.conv.reset_parameters()
        self.norm.reset_parameters()
        self.mlp.reset_parameters()

    def encode(
        self,
        x: Tensor,
        batch: Batch = None,
        batch_size: int | None = None,
        weight: Tensor | None = None,
    ) -> State:
        r"""Return the state of each graph. States of parts of a graph can be merged.

        Args:
            x: Features of the points.
            batch: Graph of each point, sorted; `None` for a single graph.
            batch_size: Number of graphs. Pass it if trailing graphs may be empty.
            weight: Weight of each point, as in `FLAREConv`.

        Shapes:
            - `x`: $[N, C_\text{in}]$
            - `batch`, `weight`: $[N]$

        Raises:
            ValueError: See `FLAREConv.encode`.
        """
        return self.conv.encode(x, batch, batch_size, weight=weight)

    def decode(self, state: State) -> Tensor:
        r"""Return the prediction for each graph from its state.

        Args:
            state: State from `encode`, or a merged state.

        Returns:
            $[B, C_\text{out}]$
        """
        value: Tensor = next(iter(state))  # [B, H, M, D]
        latents = value.transpose(1, 2).flatten(2)
        # States have at least float32, even if the points have half precision.
        latents = latents.to(self.conv.out.weight.dtype)
        tokens = self.norm(self.conv.out(latents))
        y: Tensor = self.mlp(tokens.flatten(1))
        return y

    def forward(
        self,
        x: Tensor,
        batch: Batch = None,
        batch_size: int | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        r"""Predict for each graph.

        Args:
            x: Features of the points.
            batch: Graph of each point, sorted; `None` for a single graph.
            batch_size: Number of graphs. Pass it if trailing graphs may be empty.
            weight: Weight of each point, as in `FLAREConv`.

        Shapes:
            - `x`: $[N, C_\text{in}]$
            - `batch`, `weight`: $[N]$

        Returns:
            $[B, C_\text{out}]$. For a graph without points, all latents are zero.

        Raises:
            ValueError: If the width of `x` is not `in_channels`, or `batch` is
                unsorted, of another length, or out of range.
        """
        return self.decode(self.encode(x, batch, batch_size, weight))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, {self.hidden_channels}, "
            f"{self.out_channels}, heads={self.heads}, "
            f"num_latents={self.num_latents})"
        )
