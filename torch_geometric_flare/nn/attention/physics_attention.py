"""Attention between slices of a point cloud, the mixer of Transolver."""

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional import PointBatch
from torch_geometric_flare.nn.checks import check_points, check_positive
from torch_geometric_flare.nn.layout import point_layout

# Keeps the mean of a slice that no point belongs to finite.
_EPS = 1e-5


class PhysicsAttention(nn.Module):
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
    ) -> None:
        super().__init__()
        check_positive(channels=channels, heads=heads, num_slices=num_slices)
        if head_channels is None:
            if channels % heads:
                raise ValueError(
                    f"channels is {channels}, which heads={heads} does not divide: "
                    "change one of them or give head_channels"
                )
            head_channels = channels // heads
        check_positive(head_channels=head_channels)
        self.channels = channels
        self.heads = heads
        self.num_slices = num_slices
        self.head_channels = head_channels

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
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        # Slices start out as different as they can be.
        nn.init.orthogonal_(self.slice.weight)

    def forward(
        self,
        x: Tensor,
        batch: Tensor | PointBatch | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Mix the points of each graph.

        Args:
            x: Features of the points.
            batch: Graph of each point, sorted; `None` for a single graph. A
                `PointBatch` says that the rows of `x` are in its order.
            batch_size: Number of graphs, where trailing ones may be empty.

        Shapes:
            - `x`: $[N, C]$
            - `batch`: $[N]$

        Returns:
            $[N, C]$

        Raises:
            ValueError: If the width of `x` is not `channels`, or `batch` is unsorted,
                of another length, or out of range.
        """
        check_points(x, self.channels)
        layout = point_layout(x, batch, batch_size)
        if layout is not batch:
            x = layout.sort(x)
        y = self.attend(
            self._split_heads(self.point(x)), self._split_heads(self.feature(x)), layout
        )
        y = self.out(y.flatten(-2))
        return y if layout is batch else layout.unsort(y)

    def attend(self, point: Tensor, feature: Tensor, batch: PointBatch) -> Tensor:
        r"""The part between the linear maps of $x$ and the one of the output.

        Args:
            point: What decides the slices of each point, $p$, in the order of the
                layout.
            feature: What the slices take from each point, $f$.
            batch: The layout.

        Shapes:
            - `point`, `feature`: $[N, H, D]$

        Returns:
            $y$ of shape $[N, H, D]$.
        """
        if not batch.groups:
            return feature
        logits = self.slice(point) / self.temperature.unsqueeze(-1)
        weights = logits.softmax(dim=-1)  # [N, H, G]
        blocks = zip(batch.split(weights), batch.split(feature), strict=True)
        return batch.join([self._mix(weight, block) for weight, block in blocks])

    def _mix(self, weights: Tensor, feature: Tensor) -> Tensor:
        """One dense block, [B, n, H, G] and [B, n, H, D], whose padding is zero."""
        weights = weights.transpose(1, 2)  # [B, H, n, G]
        total = weights.sum(dim=2).unsqueeze(-1) + _EPS
        token = weights.mT @ feature.transpose(1, 2) / total  # [B, H, G, D]
        scores = self.query(token) @ self.key(token).mT / self.head_channels**0.5
        token = scores.softmax(dim=-1) @ self.value(token)
        y: Tensor = (weights @ token).transpose(1, 2)
        return y

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.reshape(x.size(0), self.heads, self.head_channels)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.channels}, heads={self.heads}, "
            f"num_slices={self.num_slices})"
        )
