"""Encoding of the conditions of a graph, and a layer norm that they modulate."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from torch_geometric_flare.functional import PointBatch
from torch_geometric_flare.transforms import fourier_features


def encode_conditions(u: Tensor, octaves: int) -> Tensor:
    r"""Return conditions, and sines and cosines of each.

    Args:
        u: Conditions of each graph, scaled to about $[-1, 1]$.
        octaves: Octaves $K$ of `transforms.fourier_features`; 0 for `u` alone.

    Shapes:
        - `u`: $[B, G]$

    Returns:
        $[B, (1 + 2K) G]$
    """
    return torch.cat([u, fourier_features(u, octaves)], dim=-1) if octaves else u


class ConditionedNorm(nn.LayerNorm):
    r"""A `LayerNorm` whose scale and shift depend on the conditions of each graph.

    $$y = \mathrm{LN}(x)\,(1 + \gamma(u)) + \beta(u)$$

    With `condition_octaves`, $u$ is followed by its sines and cosines. $\gamma$ and
    $\beta$ are linear maps without bias, initialized to zero, so that the module
    initially equals `LayerNorm`. They are computed once per graph, so $u$ is not
    copied to the points.

    Args:
        channels: Width of the features.
        condition_channels: Number of conditions of each graph.
        condition_octaves: Octaves of sines and cosines, see `encode_conditions`.

    Shapes:
        - input: $[N, C]$, `batch` $[N]$, `u` $[B, G]$
        - output: $[N, C]$

    Examples:
        >>> norm, batch = ConditionedNorm(8, 2), torch.tensor([0, 0, 0, 1, 1])
        >>> norm(torch.randn(5, 8), batch, u=torch.randn(2, 2)).shape
        torch.Size([5, 8])
    """

    def __init__(
        self, channels: int, condition_channels: int, condition_octaves: int = 0
    ) -> None:
        super().__init__(channels)
        self.condition_channels = condition_channels
        self.condition_octaves = condition_octaves
        encoded = condition_channels * (1 + 2 * condition_octaves)
        self.modulation = nn.Parameter(torch.zeros(2 * channels, encoded))

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
                f"[B, {self.condition_channels}]: pass u"
            )
        encoded = encode_conditions(u, self.condition_octaves)
        maps = linear(encoded.to(self.modulation.dtype), self.modulation)
        if isinstance(batch, PointBatch):
            maps = batch.expand(maps)
        elif batch is not None:
            padded = batch.dtype == torch.bool
            maps = maps.unsqueeze(1) if padded else maps.index_select(0, batch)
        scale, shift = maps.chunk(2, dim=-1)
        return super().forward(x) * (1 + scale) + shift


def layer_norm(
    channels: int, condition_channels: int, condition_octaves: int = 0
) -> nn.LayerNorm:
    """Return a `LayerNorm`, or a `ConditionedNorm` if there are conditions."""
    if condition_channels == 0:
        return nn.LayerNorm(channels)
    return ConditionedNorm(channels, condition_channels, condition_octaves)
