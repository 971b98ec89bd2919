"""The encoded geometry of a network of two streams."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self


@dataclass(frozen=True, eq=False)
class GeometryState:
    r"""All that `nn.FLAREQuery` needs of the source points to predict at any others.

    It holds the state that each of the $L$ blocks made of all source points. Its size
    does not depend on their number: $4 B L M (C + H)$ bytes in single precision, 0.5 MB
    for a graph with 8 blocks, 64 latents and 256 channels in 8 heads.

    `FLAREQuery.encode` makes one. States of two parts of a geometry do not merge into
    that of the whole, since every block but the first sees what those before it made of
    all points: encode in chunks or over processes instead.

    Args:
        value: Values of the latents.
        lse: Log-sum-exp of the scores of the latents over the source points;
            $-\infty$ for a graph without source points.
        u: Conditions of each graph; `None` where the model has none.

    Shapes:
        - `value`: $[B, L, H, M, D]$
        - `lse`: $[B, L, H, M]$
        - `u`: $[B, G]$

    Examples:
        >>> from torch_geometric_flare.nn import FLAREQuery
        >>> model = FLAREQuery(3, 16, 1, 3, 2, num_layers=2, heads=2, num_latents=8)
        >>> state = model.encode(torch.rand(500, 3))
        >>> state.value.shape
        torch.Size([1, 2, 2, 8, 8])
        >>> state = GeometryState.from_dict(state.to_dict())
        >>> model.decode(state, torch.rand(70, 3)).shape
        torch.Size([70, 2])
    """

    value: Tensor
    lse: Tensor
    u: Tensor | None = None

    @classmethod
    def stack(cls, states: Iterable[Any], u: Tensor | None) -> Self:
        """Join the states of all blocks.

        Args:
            states: One `SoftmaxState` for each block.
            u: Conditions of each graph.
        """
        values, lses = zip(*states, strict=True)
        return cls(torch.stack(values, 1), torch.stack(lses, 1), u)

    @property
    def num_graphs(self) -> int:
        """Number of graphs."""
        return self.value.size(0)

    def pooled(self) -> Tensor:
        """Return what `nn.pooled_states` returns of the source, and conditions.

        Returns:
            $[B, S + G]$, the mean of the latents' values in each block, and `u`.
        """
        rows = self.value.mean(dim=-2).flatten(1)
        return rows if self.u is None else torch.cat([rows, self.u.to(rows.dtype)], 1)

    def to(self, device: torch.device | str) -> Self:
        """Return the state on another device.

        Args:
            device: Device of the model that decodes it.
        """
        u = None if self.u is None else self.u.to(device)
        return type(self)(self.value.to(device), self.lse.to(device), u)

    def to_dict(self) -> dict[str, Tensor]:
        """Return tensors by name, to be written by `torch.save`."""
        tensors = {"value": self.value.detach(), "lse": self.lse.detach()}
        return tensors if self.u is None else {**tensors, "u": self.u.detach()}

    @classmethod
    def from_dict(cls, tensors: Mapping[str, Any]) -> Self:
        """Return the state that `to_dict` was called on.

        Args:
            tensors: From `to_dict`, perhaps by way of a file that
                `torch.load(path, weights_only=True)` has read.

        Raises:
            ValueError: If they are not the tensors of a state.
        """
        value, lse, u = (tensors.get(name) for name in ("value", "lse", "u"))
        if (
            isinstance(value, Tensor)
            and isinstance(lse, Tensor)
            and isinstance(u, Tensor | None)
            and value.dim() == 5
            and lse.shape == value.shape[:-1]
            and (u is None or (u.dim() == 2 and u.size(0) == value.size(0)))
        ):
            return cls(value, lse, u)
        given = {
            name: tuple(t.shape) if isinstance(t, Tensor) else type(t).__name__
            for name, t in tensors.items()
        }
        raise ValueError(
            f"tensors holds {given}, expected value [B, L, H, M, D], lse [B, L, H, M] "
            "and perhaps u [B, G], as GeometryState.to_dict returns"
        )
