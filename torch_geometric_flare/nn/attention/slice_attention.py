"""What physics attention on any points and on grids have in common."""

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
from torch_geometric_flare.nn.initialization import Init, check_init, reset_scoring
from torch_geometric_flare.nn.stage import Latents

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

# Keeps the mean of a slice that no point belongs to finite.
_EPS = 1e-5


class SliceAttention(nn.Module):
    r"""Base class: points pool into slices, and the slices attend to each other.

    With $p$ and $f$ what a subclass makes of the points, in each head

    $$w_n = \mathrm{softmax}_G(W_s p_n / \tau), \qquad
      t_g = \frac{\sum_n w_{ng} f_n}{\sum_n w_{ng} + 10^{-5}}, \qquad
      t' = \mathrm{softmax}(t W_q (t W_k)^\top / \sqrt{D})\, t W_v, \qquad
      y_n = \sum_g w_{ng} t'_g$$

    and a linear map of $y$ is the output. The maps $W_s, W_q, W_k, W_v$ are shared by
    the heads; each has a temperature $\tau$ of its own.

    Args:
        channels: Width $C$ of input and output.
        heads: Attention heads $H$.
        num_slices: Slices $G$ of each head.
        head_channels: Width $D$ of a head; by default `channels // heads`.
        init: How parameters start, see `nn.initialization`: `"scaled"`, or `"paper"` as
            published.

    Raises:
        ValueError: If a size is not positive, or `head_channels` is not given and
            `channels` is not divisible by `heads`.
    """

    no_weight_decay: tuple[str, ...] = ("temperature",)
    in_channels: int | tuple[int, int]

    def __init__(
        self,
        channels: int,
        heads: int,
        num_slices: int,
        head_channels: int | None,
        init: Init = "scaled",
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
        self.channels = self.in_channels = channels
        self.heads = heads
        self.num_slices = num_slices
        self.head_channels = head_channels
        self.init = check_init(init)

        self.temperature = nn.Parameter(torch.empty(heads))
        self.slice = nn.Linear(head_channels, num_slices)
        self.query = nn.Linear(head_channels, head_channels, bias=False)
        self.key = nn.Linear(head_channels, head_channels, bias=False)
        self.value = nn.Linear(head_channels, head_channels, bias=False)
        self.out = nn.Linear(heads * head_channels, channels)

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        nn.init.constant_(self.temperature, 0.5)
        for name, module in self.named_children():
            if isinstance(module, nn.Linear):
                reset_truncated(module)
                if self.init == "scaled" and name in ("point", "query", "key"):
                    reset_scoring(module)
            elif isinstance(module, nn.Conv2d):
                # The reference leaves convolutions as PyTorch draws them.
                module.reset_parameters()
        # Slices start out as different as they can be.
        nn.init.orthogonal_(self.slice.weight)

    def process(self, state: SumState, latents: Latents = ()) -> Latents:
        """Let the slices of each graph attend to each other, $[B, H, G, D]$."""
        token = state.total / (state.weight.unsqueeze(-1) + _EPS)
        token = token.to(self.query.weight.dtype)
        scores = self.query(token) @ self.key(token).mT / self.head_channels**0.5
        return (scores.softmax(dim=-1) @ self.value(token),)

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
        weights = self.slice_weights(point)
        state = distributed_merge(ragged_sum_encode(weights, feature, layout), group)
        (token,) = self.process(state)
        return ragged_sum_decode(weights, token, layout)

    def slice_weights(self, point: Tensor) -> Tensor:
        r"""Return how much each point belongs to each slice, $w$.

        Args:
            point: What decides the slices of each point, $p$.

        Shapes:
            - `point`: $[N, H, D]$

        Returns:
            $[N, H, G]$, which sum to one over the slices.
        """
        logits = self.slice(point) / self._temperatures().unsqueeze(-1)
        weights: Tensor = logits.softmax(dim=-1)
        return weights

    def _temperatures(self) -> Tensor:
        """Return the temperature of each head, [H]."""
        return self.temperature

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.reshape(x.size(0), self.heads, self.head_channels)
