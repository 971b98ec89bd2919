"""The explicit formulas within each graph of rows that follow one another."""

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_geometric_flare.functional.definition import (
    attention_by_definition,
    decode_by_definition,
    encode_by_definition,
)
from torch_geometric_flare.functional.state import SoftmaxState


def _by_graph(sizes: Sequence[int], x: Tensor) -> list[Tensor]:
    """Split rows [N, H, D] into [1, H, n, D] per graph."""
    parts = x.split(list(sizes))
    return [part.transpose(0, 1).unsqueeze(0) for part in parts]


def _rows(parts: Sequence[Tensor]) -> Tensor:
    """Join [1, H, n, D] per graph to rows [N, H, D]."""
    return torch.cat([part.squeeze(0).transpose(0, 1) for part in parts])


def _latents(sizes: Sequence[int], q: Tensor) -> list[Tensor]:
    """Return latents [1, H, M, D] per graph."""
    return [q] * len(sizes) if q.size(0) == 1 else list(q.split(1))


def define_ragged_attention(
    q: Tensor, k: Tensor, v: Tensor, sizes: Sequence[int], scale: float
) -> Tensor:
    """Compute `shared_attention` by definition, graph by graph.

    Args:
        q: Latent queries of each graph, or of all.
        k: Keys of the points.
        v: Values of the points.
        sizes: Points of each graph.
        scale: Factor on the scores.

    Shapes:
        - `q`: $[B, H, M, D]$ or $[1, H, M, D]$
        - `k`, `v`: $[N, H, D]$

    Returns:
        $[N, H, D]$
    """
    parts = zip(
        _latents(sizes, q), _by_graph(sizes, k), _by_graph(sizes, v), strict=True
    )
    return _rows([attention_by_definition(a, b, c, None, scale) for a, b, c in parts])


def define_ragged_encode(
    q: Tensor, k: Tensor, v: Tensor, sizes: Sequence[int], scale: float
) -> SoftmaxState:
    """Compute `shared_encode` by definition; arguments as `define_ragged_attention`."""
    parts = zip(
        _latents(sizes, q), _by_graph(sizes, k), _by_graph(sizes, v), strict=True
    )
    return SoftmaxState.cat(
        [encode_by_definition(a, b, c, None, scale) for a, b, c in parts]
    )


def define_ragged_decode(
    q: Tensor, k: Tensor, z: Tensor, sizes: Sequence[int], scale: float
) -> Tensor:
    """Compute `shared_decode` by definition, from `z` of each graph, [B, H, M, D]."""
    parts = zip(_latents(sizes, q), _by_graph(sizes, k), z.split(1), strict=True)
    return _rows([decode_by_definition(a, b, c, scale) for a, b, c in parts])
