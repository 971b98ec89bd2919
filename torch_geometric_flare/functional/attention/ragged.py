"""FLARE attention within each graph of a ragged batch."""

import torch
from torch import Tensor

from torch_geometric_flare.functional.attention.backend import (
    join_blocks,
    latent_blocks,
    point_blocks,
)
from torch_geometric_flare.functional.attention.choice import compute
from torch_geometric_flare.functional.attention.reference import reference_flare_weights
from torch_geometric_flare.functional.checks import check_given, check_scale
from torch_geometric_flare.functional.point_batch import PointBatch, check_layout
from torch_geometric_flare.functional.state import SoftmaxState, state_dtype


def _check(
    q: Tensor,
    k: Tensor,
    layout: PointBatch,
    scale: float,
    **values: Tensor,
) -> Tensor:
    """Validate the arguments; return q as [1, H, M, D] or [B, H, M, D]."""
    v, z = values.get("v"), values.get("z")
    if type(layout) is not PointBatch:
        check_layout(layout)
    num_graphs = len(layout.sizes)
    for t in (q, k, *values.values()):
        # This runs for every chunk, so call `check_given` only to raise its errors.
        if (
            not isinstance(t, Tensor)
            or not isinstance(k, Tensor)
            or t.layout != torch.strided
            or not t.is_floating_point()
            or t.dtype != k.dtype
            or t.device != k.device
        ):
            check_given(k=k, q=q)
            check_given(k=k, **values)
    if type(scale) is not float:
        check_scale(scale)
    if (
        k.dim() != 3
        or q.dim() not in (3, 4)
        or (q.size(-3), q.size(-1)) != tuple(k.shape[1:])
        or (q.dim() == 4 and q.size(0) != num_graphs)
    ):
        raise ValueError(
            f"q has shape {tuple(q.shape)} and k {tuple(k.shape)}: expected [H, M, D], "
            f"or [{num_graphs}, H, M, D] for {num_graphs} graphs, and "
            "[N, H, D]"
        )
    if 0 in k.shape[1:]:
        raise ValueError(
            f"k has shape {tuple(k.shape)}, expected [N, H, D] with at least one head "
            "and one channel"
        )
    if v is not None and (v.dim() != 3 or v.shape[:2] != k.shape[:2]):
        raise ValueError(
            f"v has shape {tuple(v.shape)}, expected {tuple(k.shape[:2])} + (width,), "
            "one value per key"
        )
    latents = (num_graphs, *q.shape[-3:-1])
    if z is not None and (z.dim() != 4 or z.shape[:3] != latents):
        raise ValueError(
            f"z has shape {tuple(z.shape)}, expected {latents} + (width,), one value "
            "per latent"
        )
    if sum(layout.sizes) != k.size(0):
        raise ValueError(
            f"layout has {layout.num_points} points but k has {k.size(0)} rows"
        )
    return q if q.dim() == 4 else q.unsqueeze(0)


def ragged_flare_attention(
    q: Tensor, k: Tensor, v: Tensor, layout: PointBatch, *, scale: float = 1.0
) -> Tensor:
    r"""Compute FLARE attention within each graph of a batch.

    Args:
        q: Latent queries, shared by all graphs or one set per graph.
        k: Keys of the points, in the order of the layout.
        v: Values of the points, in the order of the layout.
        layout: The layout.
        scale: Scaling factor of the scores.

    Shapes:
        - `q`: $[H, M, D]$ or $[B, H, M, D]$
        - `k`, `v`: $[N, H, D]$

    Returns:
        $[N, H, D]$, equal to `flare_attention` of each graph separately.

    Raises:
        ValueError: If the shapes do not agree.
    """
    q = _check(q, k, layout, scale, v=v)
    if k.size(0) == 0:
        return v + _zero_from(q, k)
    y: Tensor = compute("attention", _in_sequence(q, layout), k, v, scale, layout)
    return y


def ragged_flare_encode(
    q: Tensor, k: Tensor, v: Tensor, layout: PointBatch, *, scale: float = 1.0
) -> SoftmaxState:
    r"""Compute the state of each graph of a batch.

    Args:
        q: Latent queries, shared by all graphs or one set per graph.
        k: Keys of the points, in the order of the layout.
        v: Values of the points, in the order of the layout.
        layout: The layout.
        scale: Scaling factor of the scores.

    Shapes:
        - `q`: $[H, M, D]$ or $[B, H, M, D]$
        - `k`, `v`: $[N, H, D]$

    Returns:
        Value $[B, H, M, D]$ and log-sum-exp $[B, H, M]$, with graphs in batch order. An
        empty graph has the empty state.

    Raises:
        ValueError: If the shapes do not agree.
    """
    q = _check(q, k, layout, scale, v=v)
    if k.size(0) > 0:
        state: SoftmaxState = compute(
            "encode", _in_sequence(q, layout), k, v, scale, layout
        )
        if len(layout.sequence) == layout.num_graphs and layout.order is None:
            return state
    shape = layout.num_graphs, *q.shape[1:3], v.size(-1)
    like = q.new_empty(0, dtype=state_dtype(q.dtype))
    empty = SoftmaxState.empty(*shape, like=like)
    if k.size(0) == 0:
        return SoftmaxState(empty.value + _zero_from(q, k, v), empty.lse)
    graphs = torch.tensor(layout.sequence, device=q.device)
    pairs = zip(empty, state, strict=True)
    return SoftmaxState(*(full.index_copy(0, graphs, part) for full, part in pairs))


def ragged_flare_decode(
    q: Tensor, k: Tensor, z: Tensor, layout: PointBatch, *, scale: float = 1.0
) -> Tensor:
    r"""Decode the state of each graph at its points.

    Args:
        q: Latent queries, shared by all graphs or one set per graph.
        k: Keys of the points to decode at, in the order of the layout.
        z: Latent values of each graph.
        layout: The layout of `k`.
        scale: Scaling factor of the scores.

    Shapes:
        - `q`: $[H, M, D]$ or $[B, H, M, D]$
        - `k`: $[N, H, D]$
        - `z`: $[B, H, M, D]$

    Returns:
        $[N, H, D]$

    Raises:
        ValueError: If the shapes do not agree.
    """
    if isinstance(z, Tensor) and isinstance(k, Tensor) and z.is_floating_point():
        z = z.to(k.dtype)  # states have at least float32
    q = _check(q, k, layout, scale, z=z)
    if k.size(0) == 0:
        return k.new_empty(*k.shape[:-1], z.size(-1)) + _zero_from(q, k, z)
    q, z = _in_sequence(q, layout), _in_sequence(z, layout)
    y: Tensor = compute("decode", q, k, z, scale, layout)
    return y


def ragged_flare_weights(
    q: Tensor, k: Tensor, layout: PointBatch, *, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    r"""Compute `reference_flare_weights` within each graph of a batch.

    Args:
        q: Latent queries, shared by all graphs or one set per graph.
        k: Keys of the points, in the order of the layout.
        layout: The layout.
        scale: Scaling factor of the scores.

    Shapes:
        - `q`: $[H, M, D]$ or $[B, H, M, D]$
        - `k`: $[N, H, D]$

    Returns:
        Gather and scatter weights, both $[N, H, M]$.

    Raises:
        ValueError: If the shapes do not agree.
    """
    q = _in_sequence(_check(q, k, layout, scale), layout)
    if k.size(0) == 0:
        empty = k.new_empty(0, *q.shape[1:3])
        return empty, empty
    masks = [dense.mask for dense in layout.dense_batches]
    shares: list[Tensor | None] = [None] * len(masks)
    if layout.weight is not None:
        shares = [*layout.split(layout.weight)]
    blocks = zip(
        latent_blocks(layout, q), point_blocks(layout, k), masks, shares, strict=True
    )
    weights = [
        reference_flare_weights(latents, keys, scale=scale, mask=mask, weight=share)
        for latents, keys, mask, share in blocks
    ]
    gathers, scatters = zip(*weights, strict=True)  # [B, H, M, n], [B, H, n, M]
    return join_blocks(layout, [gather.mT for gather in gathers]), join_blocks(
        layout, scatters
    )


def _zero_from(*sources: Tensor) -> Tensor:
    """Return a zero that is connected to `sources` in the autograd graph.

    A process without points must also participate in backward, because the others wait
    for it.
    """
    zero = sources[0].new_zeros(())
    for source in sources:
        zero = zero + source[:0].sum().to(zero.dtype)
    return zero


def _in_sequence(latents: Tensor, layout: PointBatch) -> Tensor:
    """Reorder latents [B, H, M, D] to the layout, without empty graphs."""
    if latents.size(0) == 1 or layout.sequence == list(range(latents.size(0))):
        return latents
    return latents[layout.sequence]
