"""The GPS layer of PyTorch Geometric with FLARE as global attention."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import dropout
from torch_geometric.nn import GPSConv

from torch_geometric_flare.nn.checks import check_heads, check_points, check_positive
from torch_geometric_flare.nn.conv.flare_conv import FLAREConv


class GPSFLAREConv(GPSConv):
    r"""Message passing and global attention of linear cost in parallel.

    The layer of [arXiv 2205.12454](https://arxiv.org/abs/2205.12454), as in
    `torch_geometric.nn.GPSConv`, whose attention is `FLAREConv`:

    $$h = \mathrm{Norm}(x + \mathrm{Conv}(x, \mathrm{edges})) +
          \mathrm{Norm}(x + \mathrm{FLAREConv}(x)), \qquad
      x' = \mathrm{Norm}(h + \mathrm{MLP}(h))$$

    Graphs are not padded to the largest. Setting the attribute `attn` of a `GPSConv` is
    not enough, because its forward skips attention of an unknown class.

    The default norm is over the channels of each point, so that no graph depends on the
    rest of the batch. With `"batch_norm"`, the default of `GPSConv`, it does in
    training.

    Args:
        channels: Width of the features.
        conv: The local layer, called as `conv(x, edge_index, **kwargs)`; `None` for
            only attention.
        heads: Number of attention heads, a divisor of `channels`.
        num_latents: Number of latents per head, the rank of the attention.
        dropout: Probability of dropping a channel of a point.
        act: Activation of the MLP.
        act_kwargs: Arguments of the activation.
        norm: Name of a norm of PyTorch Geometric; `None` for none.
        norm_kwargs: Arguments of the norm. Default for `"layer_norm"`: `mode="node"`.
        attn_kwargs: Further arguments of `FLAREConv`, such as `kv_layers`.

    Shapes:
        - input: $[N, C]$, `edge_index` $[2, E]$, `batch` $[N]$
        - output: $[N, C]$

    Raises:
        ValueError: If a size is not positive, or `heads` does not divide `channels`.

    Examples:
        >>> from torch_geometric.nn import SAGEConv
        >>> conv = GPSFLAREConv(16, SAGEConv(16, 16), heads=4, num_latents=32)
        >>> edge_index = torch.tensor([[0, 1, 2], [1, 2, 3]])
        >>> conv(torch.randn(100, 16), edge_index).shape
        torch.Size([100, 16])
    """

    def __init__(
        self,
        channels: int,
        conv: nn.Module | None,
        heads: int = 8,
        num_latents: int = 64,
        dropout: float = 0.0,
        act: str | Callable[[Tensor], Tensor] = "relu",
        act_kwargs: dict[str, Any] | None = None,
        norm: str | None = "layer_norm",
        norm_kwargs: dict[str, Any] | None = None,
        attn_kwargs: dict[str, Any] | None = None,
    ) -> None:
        check_positive(channels=channels, heads=heads, num_latents=num_latents)
        check_heads(channels, heads, "channels")
        if norm == "layer_norm" and norm_kwargs is None:
            norm_kwargs = {"mode": "node"}
        super().__init__(
            channels, conv, heads, dropout, act, act_kwargs, norm, norm_kwargs
        )
        self.attn_type = "flare"
        self.num_latents = num_latents
        # Replaces the attention of the base class.
        self.attn = FLAREConv(
            channels, heads=heads, num_latents=num_latents, **(attn_kwargs or {})
        )

    def reset_parameters(self) -> None:
        """Reset parameters."""
        norms = (self.norm1, self.norm2, self.norm3)
        for module in (self.conv, self.attn, *self.mlp, *norms):
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()

    def forward(
        self,
        x: Tensor,
        edge_index: Any,
        batch: Tensor | None = None,
        batch_size: int | None = None,
        weight: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Apply the layer.

        Args:
            x: Features of the points.
            edge_index: Edges, in any format that `conv` supports.
            batch: Graph of each point, sorted; `None` for a single graph.
            batch_size: Number of graphs. Pass it if trailing graphs may be empty.
            weight: Weight of each point, used only by the attention.
            **kwargs: Further arguments of `conv`, such as `edge_attr`.

        Shapes:
            - `x`: $[N, C]$
            - `edge_index`: $[2, E]$
            - `batch`, `weight`: $[N]$

        Returns:
            $[N, C]$

        Raises:
            ValueError: If `x` has another shape, or `batch` is unsorted, of another
                length or out of range.
        """
        check_points(x, self.channels)
        mixed = self.attn(x, batch, batch_size, weight=weight)
        h = self._finish(self.norm2, mixed, x, batch)
        if self.conv is not None:
            local = self.conv(x, edge_index, **kwargs)
            h = h + self._finish(self.norm1, local, x, batch)
        return self._normalize(self.norm3, h + self.mlp(h), batch)

    def _finish(self, norm: Any, h: Tensor, x: Tensor, batch: Tensor | None) -> Tensor:
        """Apply dropout, add the residual, and normalize."""
        h = dropout(h, p=self.dropout, training=self.training)
        return self._normalize(norm, h + x, batch)

    def _normalize(self, norm: Any, h: Tensor, batch: Tensor | None) -> Tensor:
        if norm is None:
            return h
        normalized: Tensor = norm(h, batch=batch) if self.norm_with_batch else norm(h)
        return normalized

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.channels}, conv={self.conv}, "
            f"heads={self.heads}, num_latents={self.num_latents})"
        )
