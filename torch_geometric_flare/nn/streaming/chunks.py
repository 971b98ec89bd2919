"""Compute in chunks of points: memory for one chunk, the same result.

Only encoding sees several points, so a stage needs one loop over the chunks to encode
and merge, and one to decode. What is pointwise is recomputed in backward: a stage keeps
its input and its latents, and nothing else that grows with the points.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from torch_geometric_flare.functional import PointBatch, State, distributed_merge
from torch_geometric_flare.functional.torch_internals import is_transformed
from torch_geometric_flare.nn.checks import check_positive
from torch_geometric_flare.nn.streaming.chunk_loops import encode_chunks, map_chunks
from torch_geometric_flare.nn.streaming.recompute import Chunk, gathered
from torch_geometric_flare.nn.streaming.stage import Latents, run_stage

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def in_chunks(chunk_size: int) -> bool:
    """Return whether to compute in chunks: not where `torch.func` must see all."""
    check_positive(chunk_size=chunk_size)
    return not is_transformed()


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
    return map_chunks(chunks, x, (), module)


def encode_in_chunks(
    stage: Any,
    x: Tensor,
    layout: PointBatch,
    size: int,
    group: "ProcessGroup | None",
    latents: Latents = (),
) -> State:
    """Encode all chunks of a batch and merge their states.

    Args:
        stage: A `Stage` that is a module.
        x: Rows in the batch's own order.
        layout: The graphs.
        size: Rows of a chunk.
        group: Processes that hold the other points of these graphs.
        latents: What encoding depends on, of each graph.

    Shapes:
        - `x`: $[N, C]$

    Returns:
        The states of the graphs.
    """

    def step(layout: PointBatch, part: Tensor, *latents: Tensor) -> State:
        rows = layout.sort(part)
        state: State = stage.encode_rows(rows, layout, latents)
        return state

    pieces = layout.chunks(size)
    if not pieces:
        alone: State = stage.encode_rows(x, layout, latents)
        return distributed_merge(alone, group)
    chunks = [Chunk(partial(step, p.layout), p.rows, p.graphs) for p in pieces]
    state = encode_chunks(chunks, x, latents, layout.num_graphs, stage)
    return distributed_merge(state, group)


def decode_in_chunks(
    stage: Any, latents: Latents, x: Tensor, layout: PointBatch, size: int
) -> Tensor:
    """Decode at all chunks of a batch.

    Args:
        stage: A `Stage` that is a module.
        latents: Latents of the graphs.
        x: Rows in the batch's own order.
        layout: The graphs.
        size: Rows of a chunk.

    Shapes:
        - `x`: $[N, C]$

    Returns:
        The output at all rows, $[N, C']$.
    """

    def step(layout: PointBatch, part: Tensor, *latents: Tensor) -> tuple[Tensor]:
        y = stage.decode_rows(latents, layout.sort(part), layout)
        return (layout.unsort(y),)

    pieces = layout.chunks(size)
    if not pieces:
        y: Tensor = stage.decode_rows(latents, x, layout)
        return y
    chunks = [Chunk(partial(step, p.layout), p.rows, p.graphs) for p in pieces]
    return map_chunks(chunks, x, latents, stage)


def run_in_chunks(
    stage: Any,
    x: Tensor,
    layout: PointBatch,
    size: int,
    group: "ProcessGroup | None",
) -> Tensor:
    """Run a stage on rows in the batch's own order; as `run_whole`, in chunks."""
    with gathered(stage):
        return run_stage(
            stage.num_encodes,
            lambda latents: encode_in_chunks(stage, x, layout, size, group, latents),
            stage.process,
            lambda latents: decode_in_chunks(stage, latents, x, layout, size),
        )
