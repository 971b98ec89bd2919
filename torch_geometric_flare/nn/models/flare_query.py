"""FLARE with a second stream for fields at query points."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional import PointBatch
from torch_geometric_flare.nn.checks import (
    check_conditions,
    check_double,
    check_layers,
    check_points,
    check_positive,
)
from torch_geometric_flare.nn.dense.residual_mlp import Activation
from torch_geometric_flare.nn.geometry_state import GeometryState
from torch_geometric_flare.nn.initialization import Init
from torch_geometric_flare.nn.layout import count_graphs, point_layout
from torch_geometric_flare.nn.streaming.chunks import decode_in_chunks, in_chunks
from torch_geometric_flare.nn.two_streams import (
    QueryStream,
    SourceStream,
    StreamSizes,
)

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class FLAREQuery(nn.Module):
    r"""Encodes a geometry once and predicts fields at its points and at any others.

    The *source* points carry the geometry, such as the surface of a car. They pass
    through `FLARE`, whose block $l$ produces a latent state $Z_l$. *Query* points, such
    as points in the air around the car, pass through a second stream, whose block $l$
    reads this state with separate keys:

    $$q \leftarrow q + W_l\,\mathrm{softmax}_M(s\,K_l(\mathrm{LN}(q))\,Q_l^\top)\,Z_l,
      \qquad q \leftarrow q + \mathrm{MLP}_l(\mathrm{LN}(q))$$

    Query points do not interact with each other, and source points do not depend on
    them. The prediction at a query point is thus a function of the geometry and of this
    point only, for any other query points in any order. `encode` returns a
    `GeometryState` of fixed size, from which `decode` predicts at any points, any
    number of times. `nn.encode_stream` and `nn.decode_stream` do this from file to
    file.

    Args:
        in_channels: Width of the input at source points.
        hidden_channels: Width of the hidden features of both streams.
        out_channels: Number of fields to predict at source points.
        query_channels: Width of the input at query points.
        query_out_channels: Number of fields to predict at query points.
        num_layers: Number of blocks of both streams.
        heads: Number of attention heads of each block.
        num_latents: Number of latents per head, the rank of each block's operator.
        kv_layers: Number of residual hidden layers of the key and value MLPs.
        mlp_layers: Number of residual hidden layers of each block's pointwise MLP.
        scale: Scaling factor $s$ of the attention scores.
        act: Activation; `"gelu"` is the tanh approximation.
        qk_norm: Whether latents and keys pass a `LayerNorm`.
        chunk_size: Number of points of either stream to process at a time in forward
            and backward, with the same result; `None` for all at once. Can be set on an
            existing model. For the query stream, backward saves only the input.
        lift_layers: Number of residual hidden layers of the first and the last MLPs; -1
            makes each a single linear map.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.
        condition_channels: Conditions `u` of each graph that modulate the norms of
            the blocks of both streams; 0 for none.

    Shapes:
        - input: $[N, C_\text{in}]$ and $[N_q, C_q]$
        - output: $[N, C_\text{out}]$ and $[N_q, C_\text{q,out}]$

    Raises:
        ValueError: If a size is not positive or `heads` does not divide
            `hidden_channels`.

    Examples:
        >>> model = FLAREQuery(3, 32, 1, 3, 4, num_layers=2, heads=4, num_latents=16)
        >>> surface, air = torch.rand(500, 3), torch.rand(70, 3)
        >>> pressure, flow = model(surface, air)
        >>> pressure.shape, flow.shape
        (torch.Size([500, 1]), torch.Size([70, 4]))
        >>> state = model.encode(surface)
        >>> torch.allclose(model.decode(state, air[:10]), flow[:10], atol=1e-5)
        True
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        query_channels: int,
        query_out_channels: int,
        num_layers: int = 8,
        heads: int = 8,
        num_latents: int = 64,
        kv_layers: int = 3,
        mlp_layers: int = 3,
        scale: float = 1.0,
        act: Activation = "gelu",
        qk_norm: bool = False,
        chunk_size: int | None = None,
        lift_layers: int = 2,
        init: Init = "scaled",
        condition_channels: int = 0,
    ) -> None:
        super().__init__()
        check_positive(
            query_channels=query_channels,
            query_out_channels=query_out_channels,
            chunk_size=chunk_size,
        )
        check_layers(
            kv_layers=kv_layers, mlp_layers=mlp_layers, lift_layers=lift_layers
        )
        sizes = StreamSizes(
            hidden_channels,
            num_layers,
            heads,
            num_latents,
            kv_layers,
            mlp_layers,
            scale,
            act,
            qk_norm,
            lift_layers,
            init,
            condition_channels,
        )
        self.source = SourceStream(in_channels, out_channels, sizes)
        self.query = QueryStream(query_channels, query_out_channels, sizes)
        self.chunk_size = chunk_size
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.out_channels = out_channels
        self.query_channels = query_channels
        self.query_out_channels = query_out_channels
        self.num_layers = num_layers
        self.heads = heads
        self.num_latents = num_latents
        self.kv_layers = kv_layers
        self.mlp_layers = mlp_layers
        self.scale = scale
        self.__dict__["act"] = act  # do not register it as a module
        self.qk_norm = qk_norm
        self.lift_layers = lift_layers
        self.init = init
        self.condition_channels = condition_channels

    @property
    def chunk_size(self) -> int | None:
        """Number of points to process at a time; `None` for all at once."""
        return self.source.chunk_size

    @chunk_size.setter
    def chunk_size(self, chunk_size: int | None) -> None:
        self.source.chunk_size = chunk_size

    def reset_parameters(self) -> None:
        """Reset parameters."""
        self.source.reset_parameters()
        self.query.reset_parameters()

    def forward(
        self,
        x: Tensor,
        query_x: Tensor,
        batch: Tensor | None = None,
        query_batch: Tensor | None = None,
        batch_size: int | None = None,
        group: "ProcessGroup | None" = None,
        weight: Tensor | None = None,
        u: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Predict the fields at source and query points.

        Args:
            x: Features of the source points.
            query_x: Features of the query points.
            batch: Graph of each source point, sorted; `None` for a single graph.
            query_batch: Graph of each query point, sorted; `None` for a single graph.
                A graph may have no query points.
            batch_size: Number of graphs. Pass it if trailing graphs may be empty.
            group: Process group over which the points of these graphs are distributed;
                each process passes its own source and query points, possibly none, and
                gets the fields at these.
            weight: Weight of each source point, as in `FLARE`.
            u: Conditions of each graph, if the network has `condition_channels`.

        Shapes:
            - `x`: $[N, C_\text{in}]$
            - `query_x`: $[N_q, C_q]$
            - `batch`, `weight`: $[N]$
            - `query_batch`: $[N_q]$
            - `u`: $[B, G]$

        Returns:
            The fields at source points, $[N, C_\text{out}]$, as in `FLARE`, and at
            query points, $[N_q, C_\text{q,out}]$.

        Raises:
            ValueError: If a width differs from that of the model, a batch vector is
                unsorted, of another length, or out of range, `weight` is invalid, `u`
                is missing or has another shape, or the processes of `group` differ.
            RuntimeError: If a process of `group` is lost.
        """
        if batch_size is None:
            batch_size = max(
                count_graphs(self, batch, x, group),
                count_graphs(self, query_batch, query_x, group),
            )
        y, state = self._encode(x, batch, batch_size, group, weight, u)
        return y, self.decode(state, query_x, query_batch)

    def encode(
        self,
        x: Tensor,
        batch: Tensor | None = None,
        batch_size: int | None = None,
        group: "ProcessGroup | None" = None,
        weight: Tensor | None = None,
        u: Tensor | None = None,
    ) -> GeometryState:
        r"""Encode the source points for prediction at query points.

        Args:
            x: Features of the source points.
            batch: Graph of each point, sorted; `None` for a single graph.
            batch_size: Number of graphs. Pass it if trailing graphs may be empty.
            group: Process group over which the points of these graphs are distributed;
                each process gets the state of all points.
            weight: Weight of each point, as in `forward`.
            u: Conditions of each graph. The state stores them.

        Shapes:
            - `x`: $[N, C_\text{in}]$
            - `batch`, `weight`: $[N]$
            - `u`: $[B, G]$

        Raises:
            ValueError: See `forward`.
        """
        return self._encode(x, batch, batch_size, group, weight, u)[1]

    def decode(
        self, state: GeometryState, query_x: Tensor, query_batch: Tensor | None = None
    ) -> Tensor:
        r"""Predict the fields at query points.

        Args:
            state: State from `encode` of this model.
            query_x: Features of the query points.
            query_batch: Graph of each query point, sorted; `None` for a single graph.

        Shapes:
            - `query_x`: $[N_q, C_q]$
            - `query_batch`: $[N_q]$

        Returns:
            $[N_q, C_\text{q,out}]$

        Raises:
            ValueError: If the state is from a model of other sizes, or an argument is
                invalid, see `forward`.
        """
        self._check_state(state)
        check_points(query_x, self.query_channels, "query_x")
        if query_x.dtype == torch.float64:
            check_double(self)
        layout = PointBatch.from_batch(
            query_x, query_batch, state.num_graphs, u=state.u
        )
        latents = (state.value,)
        if self.chunk_size is not None and in_chunks(self.chunk_size):
            return decode_in_chunks(
                self.query, latents, query_x, layout, self.chunk_size
            )
        rows = self.query.decode_rows(latents, layout.sort(query_x), layout)
        return layout.unsort(rows)

    def _encode(
        self,
        x: Tensor,
        batch: Tensor | None,
        batch_size: int | None,
        group: "ProcessGroup | None",
        weight: Tensor | None,
        u: Tensor | None,
    ) -> tuple[Tensor, GeometryState]:
        """Return the fields at source points and the state."""
        check_points(x, self.in_channels)
        if x.dtype == torch.float64:
            check_double(self)
        check_conditions(self, u)
        layout = point_layout(self, x, batch, batch_size, group, weight, u)
        y, states = self.source.run_with_states(x, layout, group)
        return y, GeometryState.stack(states, u)

    def _check_state(self, state: GeometryState) -> None:
        """Raise `ValueError` if the state is from a model of other sizes."""
        width = self.hidden_channels // self.heads
        expected = (self.num_layers, self.heads, self.num_latents, width)
        conditions = 0 if state.u is None else state.u.size(1)
        sizes = tuple(state.value.shape[1:])
        if (sizes, conditions) != (expected, self.condition_channels):
            raise ValueError(
                f"state is from a model of other sizes: its blocks, heads, latents and "
                f"channels of a head are {sizes}, with {conditions} conditions; this "
                f"model has {expected} and condition_channels="
                f"{self.condition_channels}: encode the geometry with this model"
            )

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, {self.hidden_channels}, "
            f"{self.out_channels}, query_channels={self.query_channels}, "
            f"query_out_channels={self.query_out_channels}, "
            f"num_layers={self.num_layers}, heads={self.heads}, "
            f"num_latents={self.num_latents})"
        )
