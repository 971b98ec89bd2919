"""Normalized linear attention, the mixer of GNOT."""

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional import (
    PointBatch,
    SumState,
    ragged_sum_decode,
    ragged_sum_encode,
)
from torch_geometric_flare.nn.checks import check_heads, check_positive
from torch_geometric_flare.nn.dense.residual_mlp import reset_truncated
from torch_geometric_flare.nn.initialization import Init, check_init, reset_scoring
from torch_geometric_flare.nn.mixer import PointMixer
from torch_geometric_flare.nn.streaming.stage import Latents


class LinearAttention(PointMixer):
    r"""Normalized linear attention: sums over points, weighted by queries.

    From GNOT, [arXiv 2302.14376](https://arxiv.org/abs/2302.14376). In each head, with
    queries and keys that pass a softmax over the head width $D$,

    $$q_n = \mathrm{softmax}_D(W_q x_n), \qquad k_n = \mathrm{softmax}_D(W_k x_n),
      \qquad v_n = W_v x_n$$

    $$y_n = \frac{q_n^\top \sum_m k_m v_m^\top}{q_n^\top \sum_m k_m} + q_n$$

    and a linear map of $y$ is the output. With a pair (source, query), keys and values
    come from the source and queries from the query points. Graphs of a batch, which may
    differ in size, do not interact. The cost is $O(ND)$ per channel.

    Args:
        channels: Width $C$ of input and output.
        heads: Number of attention heads $H$, each of width $D = C / H$.
        chunk_size: Number of points to process at a time in forward and backward, with
            the same result; `None` for all at once. Can be set on an existing module.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.

    Shapes:
        - input: $[N, C]$, `batch` $[N]$
        - output: $[N, C]$

    Raises:
        ValueError: If a size is not positive, or `heads` does not divide `channels`.

    Examples:
        >>> attention = LinearAttention(16, heads=4)
        >>> batch = torch.tensor([0] * 30 + [1] * 70)
        >>> attention(torch.randn(100, 16), batch).shape
        torch.Size([100, 16])
    """

    def __init__(
        self,
        channels: int,
        heads: int = 8,
        chunk_size: int | None = None,
        init: Init = "scaled",
    ) -> None:
        super().__init__()
        check_positive(
            channels=channels,
            heads=heads,
            chunk_size=chunk_size,
        )
        check_heads(channels, heads, "channels")
        self.channels = self.in_channels = channels
        self.heads = heads
        self.init = check_init(init)
        self.chunk_size = chunk_size
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset parameters."""
        for linear in (self.query, self.key, self.value, self.out):
            reset_truncated(linear)
        if self.init == "scaled":
            for linear in (self.query, self.key):
                reset_scoring(linear)

    def encode_rows(
        self, x: Tensor, layout: PointBatch, latents: Latents = ()
    ) -> SumState:
        r"""Sum over points: $\sum k v^\top$ $[B, H, D, D]$, $\sum k$ $[B, H, D]$."""
        k = self._split_heads(self.key(x)).softmax(dim=-1)
        return ragged_sum_encode(k, self._split_heads(self.value(x)), layout)

    def process(self, state: SumState, latents: Latents = ()) -> Latents:
        r"""Return both sums divided by $N$, concatenated: $[B, H, D, D + 1]$."""
        # Keys sum to one over D. Sums over N would overflow half precision.
        count = state.weight.sum(dim=-1)[..., None, None]
        sums = torch.cat([state.total, state.weight.unsqueeze(-1)], dim=-1)
        return (sums / torch.where(count == 0, 1.0, count),)

    def decode_rows(self, latents: Latents, x: Tensor, layout: PointBatch) -> Tensor:
        """Weight the sums by the query of each point."""
        q = self._split_heads(self.query(x)).softmax(dim=-1)
        sums = ragged_sum_decode(q, latents[0], layout)
        total, weight = sums[..., :-1], sums[..., -1:]
        y = total / torch.where(weight == 0, 1.0, weight) + q
        out: Tensor = self.out(y.flatten(-2))
        return out

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.reshape(x.size(0), self.heads, self.channels // self.heads)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.channels}, heads={self.heads})"
