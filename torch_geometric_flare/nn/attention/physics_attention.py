"""Attention between slices of a point cloud, the mixer of Transolver."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional import (
    PointBatch,
    SumState,
    distributed_merge,
    ragged_sum_decode,
    ragged_sum_encode,
)
from torch_geometric_flare.nn.checks import check_positive
from torch_geometric_flare.nn.dense.residual_mlp import reset_truncated
from torch_geometric_flare.nn.mixer import PointMixer
from torch_geometric_flare.nn.stage import Latents

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

# Keeps the mean of a slice that no point belongs to finite.
_EPS = 1e-5


class PhysicsAttention(PointMixer):
    r"""Physics attention: points pool into slices, and the slices attend to each other.

    From Transolver, [arXiv 2402.02366](https://arxiv.org/abs/2402.02366), in the form
    for unstructured points. In each head, with $p$ and $f$ two linear maps of $x$,

    $$w_n = \mathrm{softmax}_G(W_s p_n / \tau), \qquad
      t_g = \frac{\sum_n w_{ng} f_n}{\sum_n w_{ng} + 10^{-5}}, \qquad
      t' = \mathrm{softmax}(t W_q (t W_k)^\top / \sqrt{D})\, t W_v, \qquad
      y_n = \sum_g w_{ng} t'_g$$

    and a linear map of $y$ is the output. The maps $W_s, W_q, W_k, W_v$ are shared by
    the heads; each has a temperature $\tau$ of its own. Graphs of a batch never see
    each other, whatever their sizes. The cost is $O(NG)$.

    Args:
        channels: Width $C$ of input and output.
        heads: Attention heads $H$.
        num_slices: Slices $G$ of each head.
        head_channels: Width $D$ of a head; by default `channels // heads`.
        chunk_size: Points to compute at a time, forward and backward, with the same
            result; `None` for all at once. May be set on an existing module.

    Shapes:
        - input: $[N, C]$, `batch` $[N]$
        - output: $[N, C]$

    Raises:
        ValueError: If a size is not positive, or `head_channels` is not given and
            `channels` is not divisible by `heads`.

    Examples:
        >>> attention = PhysicsAttention(16, heads=4, num_slices=32)
        >>> batch = torch.tensor([0] * 30 + [1] * 70)
        >>> attention(torch.randn(100, 16), batch).shape
        torch.Size([100, 16])
    """

    def __init__(
        self,
        channels: int,
        heads: int = 8,
        num_slices: int = 64,
        head_channels: int | None = None,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        check_positive(
            channels=channels,
            heads=heads,
            num_slices=num_slices,
            chunk_size=1 if chunk_size is None else chunk_size,
        )
        if head_channels is None:
            if channels % heads:
                raise ValueError(
                    f"channels is {channels}, which heads={heads} does not divide: "
                    "change one of them or give head_channels"
                )
            head_channels = channels // heads
        check_positive(head_channels=head_channels)
        self.channels = self.in_channels = channels
        self.heads = heads
        self.num_slices = num_slices
        self.head_channels = head_channels
        self.chunk_size = chunk_size

        width = heads * head_channels
        self.temperature = nn.Parameter(torch.empty(heads))
        self.point = nn.Linear(channels, width)
        self.feature = nn.Linear(channels, width)
        self.slice = nn.Linear(head_channels, num_slices)
        self.query = nn.Linear(head_channels, head_channels, bias=False)
        self.key = nn.Linear(head_channels, head_channels, bias=False)
        self.value = nn.Linear(head_channels, head_channels, bias=False)
        self.out = nn.Linear(width, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        nn.init.constant_(self.temperature, 0.5)
        for module in self.children():
            assert isinstance(module, nn.Linear)
            reset_truncated(module)
        # Slices start out as different as they can be.
        nn.init.orthogonal_(self.slice.weight)

    def encode_rows(
        self, x: Tensor, layout: PointBatch, latents: Latents = ()
    ) -> SumState:
        r"""Pool points into slices: $\sum w f$ $[B, H, G, D]$, $\sum w$ $[B, H, G]$."""
        weights = self._weights(self._split_heads(self.point(x)))
        return ragged_sum_encode(weights, self._split_heads(self.feature(x)), layout)

    def process(self, state: SumState, latents: Latents = ()) -> Latents:
        """Let the slices of each graph attend to each other, $[B, H, G, D]$."""
        token = state.total / (state.weight.unsqueeze(-1) + _EPS)
        token = token.to(self.query.weight.dtype)
        scores = self.query(token) @ self.key(token).mT / self.head_channels**0.5
        return (scores.softmax(dim=-1) @ self.value(token),)

    def decode_rows(self, latents: Latents, x: Tensor, layout: PointBatch) -> Tensor:
        """Give each point the tokens of its slices."""
        weights = self._weights(self._split_heads(self.point(x)))
        y: Tensor = self.out(ragged_sum_decode(weights, latents[0], layout).flatten(-2))
        return y

    def mix_rows(
        self, x: Tensor, layout: PointBatch, group: "ProcessGroup | None"
    ) -> Tensor:
        """Pool and scatter with the same weights."""
        point, feature = map(self._split_heads, (self.point(x), self.feature(x)))
        y: Tensor = self.out(self.attend(point, feature, layout, group).flatten(-2))
        return y

    def attend(
        self,
        point: Tensor,
        feature: Tensor,
        layout: PointBatch,
        group: "ProcessGroup | None" = None,
    ) -> Tensor:
        r"""Compute the part between the linear maps of $x$ and the one of the output.

        Args:
            point: What decides the slices of each point, $p$, in the order of the
                layout.
            feature: What the slices take from each point, $f$.
            layout: The graphs.
            group: Processes that hold the other points of these graphs.

        Shapes:
            - `point`, `feature`: $[N, H, D]$

        Returns:
            $y$ of shape $[N, H, D]$.
        """
        weights = self._weights(point)
        state = distributed_merge(ragged_sum_encode(weights, feature, layout), group)
        (token,) = self.process(state)
        return ragged_sum_decode(weights, token, layout)

    def _weights(self, point: Tensor) -> Tensor:
        """Return how much each point belongs to each slice, [N, H, G]."""
        logits = self.slice(point) / self.temperature.unsqueeze(-1)
        weights: Tensor = logits.softmax(dim=-1)
        return weights

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.reshape(x.size(0), self.heads, self.head_channels)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.channels}, heads={self.heads}, "
            f"num_slices={self.num_slices})"
        )
