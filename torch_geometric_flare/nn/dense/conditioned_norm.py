"""Layer normalization that is modulated by the conditions of a graph."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from torch_geometric_flare.functional import PointBatch


class ConditionedNorm(nn.LayerNorm):
    r"""A `LayerNorm` whose scale and shift depend on the conditions of each graph.

    $$y = \mathrm{LN}(x)\,(1 + \gamma(u)) + \beta(u)$$

    $\gamma$ and $\beta$ are linear maps without bias, initialized to zero, so that the
    module initially equals `LayerNorm`. They are computed once per graph, so $u$ is not
    copied to the points.

    Args:
        channels: Width of the features.
        condition_channels: Number of conditions of each graph.

    Shapes:
        - input: $[N, C]$, `batch` $[N]$, `u` $[B, G]$
        - output: $[N, C]$

    Examples:
        >>> norm, batch = ConditionedNorm(8, 2), torch.tensor([0, 0, 0, 1, 1])
        >>> norm(torch.randn(5, 8), batch, u=torch.randn(2, 2)).shape
        torch.Size([5, 8])
    """

    def __init__(self, channels: int, condition_channels: int) -> None:
        super().__init__(channels)
        self.modulation = nn.Parameter(torch.zeros(2 * channels, condition_channels))

    def reset_parameters(self) -> None:
        """Reset parameters."""
        super().reset_parameters()
        if "modulation" in self._parameters:  # missing when the base class calls this
            nn.init.zeros_(self.modulation)

    def forward(
        self,
        x: Tensor,
        batch: PointBatch | Tensor | None = None,
        u: Tensor | None = None,
    ) -> Tensor:
        """Normalise features and modulate them.

        Args:
            x: Features of the points.
            batch: Graph of each point, or the layout; for padded graphs, the mask.
            u: Conditions of each graph; `None` if the layout has them.

        Shapes:
            - `x`: $[N, C]$, padded $[B, N, C]$
            - `u`: $[B, G]$

        Raises:
            ValueError: If there are no conditions.
        """
        if u is None and isinstance(batch, PointBatch):
            u = batch.u
        if u is None:
            raise ValueError(
                f"u is None, expected the conditions of each graph, "
                f"[B, {self.modulation.size(1)}]: pass u"
            )
        maps = linear(u.to(self.modulation.dtype), self.modulation)
        if isinstance(batch, PointBatch):
            maps = batch.expand(maps)
        elif batch is not None:
            padded = batch.dtype == torch.bool
            maps = maps.unsqueeze(1) if padded else maps.index_select(0, batch)
        scale, shift = maps.chunk(2, dim=-1)
        return super().forward(x) * (1 + scale) + shift


def layer_norm(channels: int, condition_channels: int) -> nn.LayerNorm:
    """Return a `LayerNorm`, or a `ConditionedNorm` if there are conditions."""
    if condition_channels == 0:
        return nn.LayerNorm(channels)
    return ConditionedNorm(channels, condition_channels)
