"""FLARE attention by the fused CUDA kernel for ragged sequences."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from torch_geometric_flare.functional.point_batch import PointBatch

varlen_attn: Any
try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # an older torch
    varlen_attn = None


def varlen_obstacle(
    verb: str, k: Tensor, layout: PointBatch | None, traced: bool
) -> str | None:
    """Return why the CUDA kernel for ragged sequences cannot be used, if so."""
    if layout is None or not layout.varlen:
        return "the batch is none of unequal graphs in half precision on CUDA"
    if verb != "attention":
        return f"it does not {verb}"
    if varlen_attn is None:
        return "this torch has no torch.nn.attention.varlen"
    if k.size(-1) not in range(8, 257, 8):
        return f"heads of width {k.size(-1)} are no multiple of 8 up to 256"
    return "operations are traced" if traced else None


def varlen_attention(
    q: Tensor, k: Tensor, v: Tensor, layout: PointBatch, scale: float
) -> Tensor:
    """Compute attention within each graph by two calls of the kernel.

    Args:
        q: Latent queries of all graphs, or of each.
        k: Keys of the points, in the order of the layout.
        v: Values of the points, in the order of the layout.
        layout: The graphs.
        scale: Factor on the scores.

    Shapes:
        - `q`: $[1, H, M, D]$ or $[B, H, M, D]$
        - `k`, `v`: $[N, H, D]$

    Returns:
        $[N, H, D]$
    """
    (dense,) = layout.dense_batches
    num_latents, num_graphs = q.size(2), len(dense.graphs)
    points = _ends(layout, q.device)
    latents = num_latents * torch.arange(
        num_graphs + 1, device=q.device, dtype=torch.int32
    )
    queries = q.expand(num_graphs, -1, -1, -1).transpose(1, 2).flatten(0, 1)
    attend = _attend(scale)
    z = cast(
        Tensor,
        attend(queries, k, v, latents, points, num_latents, dense.size),
    )
    return cast(
        Tensor,
        attend(k, queries, z, points, latents, dense.size, num_latents),
    )


def varlen_self_attention(
    q: Tensor, k: Tensor, v: Tensor, layout: PointBatch, scale: float
) -> Tensor:
    """Compute attention among the points of each graph by one call of the kernel.

    Args:
        q: Queries of the points, in the order of the layout.
        k: Keys of the points.
        v: Values of the points.
        layout: The graphs.
        scale: Factor on the scores.

    Shapes:
        - `q`, `k`, `v`: $[N, H, D]$

    Returns:
        $[N, H, D]$
    """
    (dense,) = layout.dense_batches
    points = _ends(layout, q.device)
    return cast(Tensor, _attend(scale)(q, k, v, points, points, dense.size, dense.size))


def _ends(layout: PointBatch, device: torch.device) -> Tensor:
    """Return where graphs begin and end among the rows, in 32 bits for the kernel."""
    (dense,) = layout.dense_batches
    sizes = torch.tensor([0, *(layout.sizes[g] for g in dense.graphs)])
    return sizes.cumsum(0).to(device, torch.int32)


def _attend(scale: float) -> Callable[..., Any]:
    # One split: with more, the rounding of a graph depends on the largest in the batch.
    return partial(varlen_attn, scale=scale, num_splits=1)
