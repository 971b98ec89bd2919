"""The encoded geometry of a two-stream network."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self


@dataclass(frozen=True, eq=False)
class GeometryState:
    r"""The encoded source points, from which `nn.FLAREQuery` predicts at any points.

    It holds the state of all source points in each of the $L$ blocks. Its size does not
    depend on the number of points: $4 B L M (C + H)$ bytes in float32, 0.5 MB for a
    graph with 8 blocks, 64 latents and 256 channels in 8 heads.

    Create it with `FLAREQuery.encode`. The states of two parts of a geometry cannot be
    merged into the state of the whole geometry, because every block but the first
    depends on the output of preceding blocks for all points. Encode in chunks or over
    processes instead.

    Args:
        value: Values of the latents.
        lse: Log-sum-exp of the scores of the latents over the source points;
            $-\infty$ for a graph without source points.
        u: Conditions of each graph; `None` if the model has none.

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
        """Stack the states of all blocks.

        Args:
            states: One `SoftmaxState` per block.
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
        """Return tensors by name, for `torch.save`."""
        tensors = {"value": self.value.detach(), "lse": self.lse.detach()}
        return tensors if self.u is None else {**tensors, "u": self.u.detach()}

    @classmethod
    def from_dict(cls, tensors: Mapping[str, Any]) -> Self:
        """Build the state from the result of `to_dict`.

        Args:
            tensors: The result of `to_dict`, possibly loaded from a file with
                `torch.load(path, weights_only=True)`.

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
        shapes = {
            name: tuple(t.shape) if isinstance(t, Tensor) else type(t).__name__
            for name, t in tensors.items()
        }
        raise ValueError(
            f"tensors holds {shapes}, expected value [B, L, H, M, D], lse [B, L, H, M] "
            "and optionally u [B, G], as GeometryState.to_dict returns"
        )
