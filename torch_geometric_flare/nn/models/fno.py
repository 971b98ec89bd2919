"""A wrapper of the Fourier neural operator of the package neuraloperator."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from torch_geometric_flare._extras import MissingExtra, install_command
from torch_geometric_flare.functional import PointBatch
from torch_geometric_flare.nn.checks import check_grid, check_points, check_positive
from torch_geometric_flare.nn.layout import Batch, point_layout


class FNO(nn.Module):
    r"""The Fourier neural operator on the points of one grid.

    From [arXiv 2010.08895](https://arxiv.org/abs/2010.08895): `neuralop.models.FNO` of
    the package neuraloperator (`pip install ".[fno]"`), with defaults for all arguments
    that are not listed here. Rows of $x$ are reshaped to images of shape `grid` and
    back. The network appends the position in the unit square, $(i / H, j / W)$, to its
    input.

    On a body-fitted grid, it operates on the indices $(i, j)$ and gets the shape from
    the coordinates in its input.

    Limitations: each graph must have all points of the grid, so `chunk_size`, `group`
    and `predict_stream` are not supported. Its Fourier transforms are in float32 for
    any dtype of the model and do not support bfloat16; autocast works. Fields that are
    not periodic cause errors at the boundary, which the pointwise maps must correct.

    Args:
        in_channels: Width of the input.
        hidden_channels: Width of the hidden features.
        out_channels: Number of fields to predict.
        grid: Rows $H$ and columns $W$ of the grid of every graph, in row-major order.
        num_layers: Number of Fourier layers.
        modes: Total number of positive and negative Fourier modes to keep along rows
            and columns.

    Shapes:
        - input: $[N, C_\text{in}]$, `batch` $[N]$
        - output: $[N, C_\text{out}]$

    Raises:
        ImportError: If neuraloperator is not installed.
        ValueError: If a size is not positive, `grid` or `modes` is not a pair of sizes,
            or there are more modes than points along an axis.

    Examples:
        >>> x = torch.randn(500, 3)
        >>> model = FNO(3, 16, 1, grid=(20, 25), modes=(8, 8))  # doctest: +SKIP
        >>> model(x).shape  # doctest: +SKIP
        torch.Size([500, 1])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        grid: tuple[int, int],
        num_layers: int = 4,
        modes: tuple[int, int] = (16, 16),
    ) -> None:
        super().__init__()
        check_positive(
            in_channels=in_channels,
            hidden_channels=hidden_channels,
            out_channels=out_channels,
            num_layers=num_layers,
        )
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.out_channels = out_channels
        self.grid = check_grid(grid)
        self.num_layers = num_layers
        self.modes = check_grid(modes, "modes")
        if any(mode > n for mode, n in zip(self.modes, self.grid, strict=True)):
            raise ValueError(
                f"modes is {self.modes}, more than the points of grid={self.grid}: "
                "pass at most as many along each axis"
            )
        self.network = self._new_network()
        nn.Module.register_state_dict_post_hook(self, _drop_metadata)

    def _new_network(self) -> nn.Module:
        network: nn.Module = _network_class()(
            n_modes=self.modes,
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            hidden_channels=self.hidden_channels,
            n_layers=self.num_layers,
        )
        return network

    def reset_parameters(self) -> None:
        """Reset parameters."""
        self.network.load_state_dict(self._new_network().state_dict())

    def forward(
        self, x: Tensor, batch: Batch = None, batch_size: int | None = None
    ) -> Tensor:
        r"""Predict the fields at every point.

        Args:
            x: Features of the points, in row-major order within each graph.
            batch: Graph of each point, sorted; `None` for a single graph; or the
                layout.
            batch_size: Number of graphs. Pass it if trailing graphs may be empty.

        Shapes:
            - `x`: $[N, C_\text{in}]$
            - `batch`: $[N]$

        Returns:
            $[N, C_\text{out}]$. Graphs do not affect each other.

        Raises:
            ValueError: If a graph is neither empty nor the full grid, the width of `x`
                is not `in_channels`, or `batch` is unsorted, of another length, or out
                of range.
        """
        check_points(x, self.in_channels)
        self._check_sizes(point_layout(self, x, batch, batch_size))
        if not len(x):  # neuraloperator cannot reshape empty batches
            return x.sum(1, keepdim=True).expand(-1, self.out_channels)
        # All graphs have the same size, so rows are in batch order.
        image = x.view(-1, *self.grid, self.in_channels).permute(0, 3, 1, 2)
        y: Tensor = self.network(image)  # [B, C, H, W]
        return y.permute(0, 2, 3, 1).flatten(0, 2)

    def _check_sizes(self, layout: PointBatch) -> None:
        rows, columns = self.grid
        for graph, size in enumerate(layout.sizes):
            if size not in (0, rows * columns):
                raise ValueError(
                    f"graph {graph} has {size} points, expected {rows * columns}: "
                    f"this FNO requires grid={self.grid}; pass whole "
                    "grids in row-major order, or build it for this grid"
                )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FNO":
        # Casting to a real dtype would drop the imaginary parts of the weights.
        def on_pairs(t: Tensor) -> Tensor:
            if not t.is_complex():
                return fn(t)
            return torch.view_as_complex(fn(torch.view_as_real(t)))

        nn.Module._apply(self, on_pairs, recurse)
        return self

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, {self.hidden_channels}, "
            f"{self.out_channels}, grid={self.grid}, num_layers={self.num_layers}, "
            f"modes={self.modes})"
        )


def _network_class() -> Any:
    try:
        with warnings.catch_warnings():  # the import changes the warning filters
            from neuralop.models import FNO as network
    except ImportError as error:
        raise MissingExtra(
            f"FNO needs the package neuraloperator: {install_command('fno')}"
        ) from error
    return network


def _drop_metadata(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, metadata: dict[str, Any]
) -> None:
    """Remove the metadata that neuraloperator adds, which includes functions."""
    state_dict.pop("_metadata", None)
