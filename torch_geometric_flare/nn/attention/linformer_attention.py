"""The attention of Linformer, for graphs with a fixed number of points."""

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional import PointBatch
from torch_geometric_flare.nn.attention.full_attention import EqualSizeAttention
from torch_geometric_flare.nn.checks import check_positive
from torch_geometric_flare.nn.initialization import Init


class LinformerAttention(EqualSizeAttention):
    r"""Softmax attention to learned projections of the keys and values.

    From [arXiv 2006.04768](https://arxiv.org/abs/2006.04768). In each head, with
    $E, F \in \mathbb{R}^{k \times N}$ learned and shared by the heads,

    $$Y = \mathrm{softmax}(Q(EK)^\top / \sqrt{D})\,FV$$

    and a linear map of $Y$ is the output. Because of $E$ and $F$, all graphs must have
    $N$ points in the same order. The cost is $O(Nk)$ per graph.

    Args:
        channels: Width $C$ of input and output.
        num_points: Number of points $N$ of every graph.
        heads: Number of attention heads, each of width $D = C / H$.
        num_projections: Number of rows $k$ of $E$ and $F$.
        init: Parameter initialization, `"scaled"` or `"paper"`, see
            `nn.initialization`.

    Shapes:
        - input: $[BN, C]$, `batch` $[BN]$
        - output: $[BN, C]$

    Raises:
        ValueError: If a size is not positive, or `heads` does not divide `channels`.

    Examples:
        >>> from torch_geometric_flare.nn import LinformerAttention
        >>> attention = LinformerAttention(16, num_points=50, heads=4)
        >>> batch = torch.tensor([0] * 50 + [1] * 50)
        >>> attention(torch.randn(100, 16), batch).shape
        torch.Size([100, 16])
    """

    def __init__(
        self,
        channels: int,
        num_points: int,
        heads: int = 8,
        num_projections: int = 64,
        init: Init = "scaled",
    ) -> None:
        super().__init__(channels, heads, 3, init)
        check_positive(num_points=num_points, num_projections=num_projections)
        self.num_points = num_points
        self.num_projections = num_projections
        self.project_keys = nn.Parameter(torch.empty(num_projections, num_points))
        self.project_values = nn.Parameter(torch.empty(num_projections, num_points))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset parameters."""
        super().reset_parameters()
        for weight in (self.project_keys, self.project_values):
            nn.init.normal_(weight, std=self.num_points**-0.5)

    def check_sizes(self, layout: PointBatch) -> None:
        """Raise `ValueError` unless each graph is empty or has `num_points` points."""
        for graph, size in enumerate(layout.sizes):
            if size not in (0, self.num_points):
                raise ValueError(
                    f"graph {graph} has {size} points, expected {self.num_points}: the "
                    "projections of Linformer require num_points="
                    f"{self.num_points}; build it for {size}, or use another model"
                )

    def attend(self, maps: Tensor) -> Tensor:
        """Mix the points of graphs of equal size, see `EqualSizeAttention`."""
        q, k, v = maps.unbind(0)
        scores = (q * q.size(-1) ** -0.5) @ (self.project_keys @ k).mT
        y: Tensor = scores.softmax(-1).to(v.dtype) @ (self.project_values @ v)
        return y

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.channels}, {self.num_points}, "
            f"heads={self.heads}, num_projections={self.num_projections})"
        )
