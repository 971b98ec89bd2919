"""Two passes over chunks of points: memory for one chunk, the same result.

Only encoding sees several points, so a mixer needs one pass that encodes and merges and
one that decodes. What is pointwise is computed again in backward: a layer keeps its
input and its latents, and nothing else that grows with the points.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn

from torch_geometric_flare.functional import (
    LatentState,
    PointBatch,
    distributed_merge,
)
from torch_geometric_flare.functional.fused import is_transformed
from torch_geometric_flare.nn.passes import Chunk, encode_pass, map_pass

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Encode = Callable[[Tensor, PointBatch], LatentState]
Decode = Callable[[LatentState, Tensor, PointBatch], Tensor]


def in_chunks(chunk_size: int | None) -> bool:
    """Whether to compute in chunks: not where `torch.func` must see every operation."""
    return chunk_size is not None and not is_transformed()


def map_points(module: nn.Module, x: Tensor, size: int) -> Tensor:
    """Apply a pointwise module to chunks of points.

    Args:
        module: Acts on each row by itself.
        x: Rows.
        size: Rows of a chunk.

    Shapes:
        - `x`: $[N, C]$

    Returns:
        `module(x)`.
    """

    def step(part: Tensor) -> tuple[Tensor]:
        return (module(part),)

    starts = range(0, max(1, x.size(0)), size)
    chunks = [Chunk(step, slice(start, start + size)) for start in starts]
    return map_pass(chunks, x, (), module)


def encode_chunks(
    encode: Encode,
    x: Tensor,
    layout: PointBatch,
    size: int,
    group: "ProcessGroup | None" = None,
    *,
    module: nn.Module,
) -> LatentState:
    """Encode all chunks of a batch and merge their states.

    Args:
        encode: The states of the graphs of a chunk, from its rows and its layout.
        x: Rows in the batch's own order.
        layout: The graphs.
        size: Rows of a chunk.
        group: Processes that hold the other points of these graphs, if there are any.
        module: Its parameters are all that `encode` depends on besides its arguments.

    Shapes:
        - `x`: $[N, C]$

    Returns:
        The states of the graphs.
    """

    def step(layout: PointBatch, part: Tensor) -> tuple[Tensor, ...]:
        return encode(layout.sort(part), layout)

    chunks = [
        Chunk(partial(step, chunk.layout), chunk.rows, chunk.graphs)
        for chunk in layout.chunks(size)
    ]
    if not chunks:
        return distributed_merge(encode(x, layout), group)
    state = encode_pass(chunks, x, layout.num_graphs, module)
    return distributed_merge(state, group)


def decode_chunks(
    decode: Decode,
    state: LatentState,
    x: Tensor,
    layout: PointBatch,
    size: int,
    *,
    module: nn.Module,
) -> Tensor:
    """Decode the states of the graphs of a batch at each of its chunks.

    Args:
        decode: The output at the rows of a chunk, from its graphs' states.
        state: The states of the graphs.
        x: Rows in the batch's own order.
        layout: The graphs.
        size: Rows of a chunk.
        module: Its parameters are all that `decode` depends on besides its arguments.

    Shapes:
        - `x`: $[N, C]$

    Returns:
        The output at all rows, $[N, C']$.
    """

    def step(
        layout: PointBatch, part: Tensor, value: Tensor, lse: Tensor
    ) -> tuple[Tensor, ...]:
        y = decode(LatentState(value, lse), layout.sort(part), layout)
        return (layout.unsort(y),)

    chunks = [
        Chunk(partial(step, chunk.layout), chunk.rows, chunk.graphs)
        for chunk in layout.chunks(size)
    ]
    if not chunks:
        return decode(state, x, layout)
    return map_pass(chunks, x, state, module)
