"""The block of GNOT: linear attention and a gated mixture of experts."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional import PointBatch, State, distributed_merge
from torch_geometric_flare.nn.attention.linear_attention import LinearAttention
from torch_geometric_flare.nn.dense.conditioned_norm import layer_norm
from torch_geometric_flare.nn.dense.residual_mlp import pointwise_mlp
from torch_geometric_flare.nn.streaming.stage import Latents, record_state

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class ExpertMixture(nn.Module):
    r"""A mixture of MLPs, weighted at each point: $\sum_e w_e\,\mathrm{MLP}_e(h)$.

    Args:
        channels: Width of input and output.
        num_experts: Number of MLPs.
        mlp_ratio: Inner width of each MLP divided by `channels`.
    """

    def __init__(self, channels: int, num_experts: int, mlp_ratio: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(
            pointwise_mlp(channels, mlp_ratio * channels, channels, nn.GELU())
            for _ in range(num_experts)
        )

    def forward(self, h: Tensor, weights: Tensor) -> Tensor:
        """Return [N, C] from [N, C] and the weights [N, E]."""
        pairs = zip(self.experts, weights.split(1, dim=-1), strict=True)
        return torch.stack([w * expert(h) for expert, w in pairs]).sum(dim=0)


class ExpertBlock(nn.Module):
    """A block of `nn.models.GNOT` and a `nn.streaming.Stage`.

    `nn.models.GNOT` documents the formulas. Rows are the concatenation [g, f, x] of the
    geometry, the state, and the inputs of the gate. The block changes only f. It
    encodes twice: first f for the cross-attention, then the result of the first half
    for the self-attention.

    Args:
        in_channels: Width of the inputs.
        channels: Width of geometry and state.
        heads: Number of attention heads.
        num_experts: Number of MLPs of each mixture.
        mlp_ratio: Inner width of gate and experts divided by `channels`.
        condition_channels: Number of conditions of each graph, which modulate all norms
            except that of the geometry; 0 for none.
    """

    num_encodes = 2
    input_maps = ("gate",)

    def __init__(
        self,
        in_channels: int,
        channels: int,
        heads: int,
        num_experts: int,
        mlp_ratio: int,
        condition_channels: int = 0,
    ) -> None:
        super().__init__()
        self.condition_channels = condition_channels

        def norm() -> Any:
            return layer_norm(channels, condition_channels)

        self.widths = channels, channels, in_channels
        self.geometry_norm = nn.LayerNorm(channels)
        self.state_norm = norm()
        self.cross_attention = LinearAttention(channels, heads, init="paper")
        self.experts1 = ExpertMixture(channels, num_experts, mlp_ratio)
        self.experts1_norm = norm()
        self.self_attention_norm = norm()
        self.self_attention = LinearAttention(channels, heads, init="paper")
        self.experts2 = ExpertMixture(channels, num_experts, mlp_ratio)
        self.experts2_norm = norm()
        inner = mlp_ratio * channels
        self.gate = nn.Sequential(
            nn.Linear(in_channels, inner),
            nn.GELU(),
            nn.Linear(inner, inner),
            nn.GELU(),
            nn.Linear(inner, num_experts),
        )

    def encode_rows(
        self, rows: Tensor, layout: PointBatch, latents: Latents = ()
    ) -> State:
        """Return the state of the cross-attention, then of the self-attention."""
        if not latents:
            f = rows.split(self.widths, dim=-1)[1]
            f = self.state_norm(f, *self._norm_arguments(layout))
            return self.cross_attention.encode_rows(f, layout)
        h = self._first_half(latents, rows, layout, self._weights(rows))
        return self._encode_second(h, layout)

    def process(self, state: Any, latents: Latents = ()) -> Latents:
        """Return the latents of the cross-attention, then of both attentions."""
        attention = self.self_attention if latents else self.cross_attention
        return (*latents, *attention.process(state))

    def decode_rows(self, latents: Latents, rows: Tensor, layout: PointBatch) -> Tensor:
        """Return the rows with the updated state."""
        weights = self._weights(rows)
        h = self._first_half(latents[:1], rows, layout, weights)
        return self._second_half(latents[1:], h, rows, layout, weights)

    def forward(
        self,
        rows: Tensor,
        layout: PointBatch,
        group: "ProcessGroup | None" = None,
    ) -> Tensor:
        """Run both halves on all points at once.

        Args:
            rows: Rows [g, f, x] in the order of the layout.
            layout: The graphs.
            group: Process group over which the points of these graphs are distributed.
        """
        weights = self._weights(rows)
        state = distributed_merge(self.encode_rows(rows, layout), group)
        first = self.process(state)
        h = self._first_half(first, rows, layout, weights)
        state = distributed_merge(self._encode_second(h, layout), group)
        record_state(state)
        _, second = self.process(state, first)
        return self._second_half((second,), h, rows, layout, weights)

    def _first_half(
        self, latents: Latents, rows: Tensor, layout: PointBatch, weights: Tensor
    ) -> Tensor:
        """Add cross-attention and the first experts to the geometry."""
        g = rows.split(self.widths, dim=-1)[0]
        query = self.geometry_norm(g)
        h = g + self.cross_attention.decode_rows(latents, query, layout)
        mixture = self.experts1(h, weights)
        y: Tensor = h + self.experts1_norm(mixture, *self._norm_arguments(layout))
        return y

    def _encode_second(self, h: Tensor, layout: PointBatch) -> State:
        h = self.self_attention_norm(h, *self._norm_arguments(layout))
        return self.self_attention.encode_rows(h, layout)

    def _second_half(
        self,
        latents: Latents,
        h: Tensor,
        rows: Tensor,
        layout: PointBatch,
        weights: Tensor,
    ) -> Tensor:
        """Add self-attention and the second experts; return the updated rows."""
        arguments = self._norm_arguments(layout)
        query = self.self_attention_norm(h, *arguments)
        h = h + self.self_attention.decode_rows(latents, query, layout)
        f = h + self.experts2_norm(self.experts2(h, weights), *arguments)
        g, _, x = rows.split(self.widths, dim=-1)
        return torch.cat([g, f.to(g.dtype), x], dim=-1)

    def _norm_arguments(self, layout: PointBatch) -> tuple[PointBatch, ...]:
        """Return the further arguments of the norms."""
        return (layout,) if self.condition_channels else ()

    def _weights(self, rows: Tensor) -> Tensor:
        """Return the weight of each expert at each point, [N, E]."""
        x = rows.split(self.widths, dim=-1)[2]
        weights: Tensor = self.gate(x).softmax(dim=-1)
        return weights
