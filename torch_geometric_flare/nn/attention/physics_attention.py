"""Attention between slices of a point cloud, the mixer of Transolver."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from torch_geometric_flare.functional import (
    PointBatch,
    SumState,
    ragged_sum_decode,
    ragged_sum_encode,
)
from torch_geometric_flare.nn.attention.slice_attention import SliceAttention
from torch_geometric_flare.nn.checks import check_positive
from torch_geometric_flare.nn.initialization import Init
from torch_geometric_flare.nn.mixer import PointMixer
from torch_geometric_flare.nn.stage import Latents

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class PhysicsAttention(SliceAttention, PointMixer):
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
        init: How parameters start, see `nn.initialization`: `"scaled"`, or `"paper"` as
            published.

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
        init: Init = "scaled",
    ) -> None:
        super().__init__(channels, heads, num_slices, head_channels, init)
        check_positive(chunk_size=1 if chunk_size is None else chunk_size)
        self.chunk_size = chunk_size
        width = self.heads * self.head_channels
        self.point = nn.Linear(channels, width)
        self.feature = nn.Linear(channels, width)
        self.reset_parameters()

    def encode_rows(
        self, x: Tensor, layout: PointBatch, latents: Latents = ()
    ) -> SumState:
        r"""Pool points into slices: $\sum w f$ $[B, H, G, D]$, $\sum w$ $[B, H, G]$."""
        weights = self.slice_weights(self._split_heads(self.point(x)))
        return ragged_sum_encode(weights, self._split_heads(self.feature(x)), layout)

    def decode_rows(self, latents: Latents, x: Tensor, layout: PointBatch) -> Tensor:
        """Give each point the tokens of its slices."""
        weights = self.slice_weights(self._split_heads(self.point(x)))
        y: Tensor = self.out(ragged_sum_decode(weights, latents[0], layout).flatten(-2))
        return y

    def mix_rows(
        self, x: Tensor, layout: PointBatch, group: "ProcessGroup | None"
    ) -> Tensor:
        """Pool and scatter with the same weights."""
        point, feature = map(self._split_heads, (self.point(x), self.feature(x)))
        y: Tensor = self.out(self.attend(point, feature, layout, group).flatten(-2))
        return y

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.channels}, heads={self.heads}, "
            f"num_slices={self.num_slices})"
        )
