"""Two passes over chunks of points: memory for one chunk, the same result.

Only encoding sees several points, so a mixer needs one pass that encodes and merges and
one that decodes. What is pointwise is recomputed in backward: a layer keeps its input
and its latents, and nothing else that grows with the points.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from torch_geometric_flare.functional import (
    LatentState,
    PointBatch,
    distributed_merge,
)
from torch_geometric_flare.functional.point_batch import PointChunk
from torch_geometric_flare.functional.ragged import merge_chunks

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Encode = Callable[[Tensor, PointBatch], LatentState]
Decode = Callable[[LatentState, Tensor, PointBatch], Tensor]


def _recompute(function: Callable[..., Any], *args: Any) -> Any:
    """Call `function`, and again in backward instead of keeping what it computes."""
    if not torch.is_grad_enabled():
        return function(*args)
    return checkpoint(function, *args, use_reentrant=False)


def _fill(out: Tensor | None, x: Tensor, rows: slice, part: Tensor) -> Tensor:
    """Write a part of an output of as many rows as `x`, made at its first part."""
    if out is None:
        out = part.new_empty(x.size(0), *part.shape[1:])
    out[rows] = part
    return out


def map_points(function: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    """Apply a pointwise function to chunks of points.

    Args:
        function: Acts on each row by itself.
        x: Rows.
        size: Rows of a chunk.

    Shapes:
        - `x`: $[N, C]$

    Returns:
        `function(x)`.
    """
    if torch.is_grad_enabled():
        return torch.cat([_recompute(function, part) for part in x.split(size)])
    out = None
    for start in range(0, max(1, x.size(0)), size):
        rows = slice(start, start + size)
        out = _fill(out, x, rows, function(x[rows]))
    assert out is not None
    return out


def encode_chunks(
    encode: Encode,
    x: Tensor,
    layout: PointBatch,
    size: int,
    group: "ProcessGroup | None" = None,
) -> LatentState:
    """Encode all chunks of a batch and merge their states.

    Args:
        encode: The states of the graphs of a chunk, from its rows and its layout.
        x: Rows in the batch's own order.
        layout: The graphs.
        size: Rows of a chunk.
        group: Processes that hold the other points of these graphs, if there are any.

    Shapes:
        - `x`: $[N, C]$

    Returns:
        The states of the graphs.
    """

    def encode_part(part: Tensor, layout: PointBatch) -> LatentState:
        return encode(layout.sort(part), layout)

    chunks = layout.chunks(size)
    if not chunks:
        return distributed_merge(encode(x, layout), group)
    states = [
        LatentState(*_recompute(encode_part, part, chunk.layout))
        for part, chunk in zip(_parts(x, chunks), chunks, strict=True)
    ]
    none = LatentState.empty(*states[0].value[:1].shape, like=states[0].value)
    merged = merge_chunks(states, chunks, layout.num_graphs, none)
    return distributed_merge(merged, group)


def decode_chunks(
    decode: Decode, state: LatentState, x: Tensor, layout: PointBatch, size: int
) -> Tensor:
    """Decode the states of the graphs of a batch at each of its chunks.

    Args:
        decode: The output at the rows of a chunk, from its graphs' states.
        state: The states of the graphs.
        x: Rows in the batch's own order.
        layout: The graphs.
        size: Rows of a chunk.

    Shapes:
        - `x`: $[N, C]$

    Returns:
        The output at all rows, $[N, C']$.
    """

    def decode_part(
        value: Tensor, lse: Tensor, part: Tensor, layout: PointBatch
    ) -> Tensor:
        y = decode(LatentState(value, lse), layout.sort(part), layout)
        return layout.unsort(y)

    chunks = layout.chunks(size)
    if not chunks:
        return decode(state, x, layout)
    outputs = (
        _recompute(
            decode_part,
            state.value[chunk.graphs],
            state.lse[chunk.graphs],
            part,
            chunk.layout,
        )
        for part, chunk in zip(_parts(x, chunks), chunks, strict=True)
    )
    if torch.is_grad_enabled():
        return torch.cat(list(outputs))
    out = None
    for chunk, part in zip(chunks, outputs, strict=True):
        out = _fill(out, x, chunk.rows, part)
    assert out is not None
    return out


def _parts(x: Tensor, chunks: Sequence[PointChunk]) -> Sequence[Tensor]:
    # One split, not many slices: the gradient of a slice is as large as x.
    parts: Sequence[Tensor] = x.split(
        [chunk.rows.stop - chunk.rows.start for chunk in chunks]
    )
    return parts
