"""Loops over chunks of points, each loop a single node of the autograd graph.

Backward recomputes each chunk: a loop keeps its input and the latents, and nothing else
that grows with the points. It reads and writes tensors of all points. With one node per
chunk, small tensors that outlive their chunk would lie between the temporary ones of
the next, and leave the heap full of holes: ten times the memory.
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import Any

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional import State
from torch_geometric_flare.functional.mlp import packed_once
from torch_geometric_flare.nn.streaming.recompute import (
    Chunk,
    Surroundings,
    chunk_gradients,
)

# Merging one state at a time takes longer than encoding a small chunk.
_MERGED_AT_ONCE = 16


class _EncodeChunks(torch.autograd.Function):
    """The states of all graphs from those of the chunks."""

    @staticmethod
    def forward(
        ctx: Any,
        chunks: Sequence[Chunk],
        around: Surroundings,
        num_graphs: int,
        num_inputs: int,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        x, *latents = tensors[:num_inputs]
        total: Any = None
        with packed_once():
            for together in _successive(chunks):
                graphs = together[0].graphs
                with around.autocast():
                    parts: list[Any] = [
                        chunk.function(x[chunk.rows], *(t[graphs] for t in latents))
                        for chunk in together
                    ]
                part = parts[0]
                total = merge_into(total, parts, graphs, num_graphs)
        whole = type(part)(
            *(t.to(like.dtype) for t, like in zip(total, part, strict=True))
        )
        ctx.save_for_backward(*tensors, *whole)
        around.state_class = type(part)
        ctx.chunks, ctx.around = chunks, around
        ctx.num_inputs, ctx.num_tensors = num_inputs, len(tensors)
        return tuple(whole)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved, split = ctx.saved_tensors, ctx.num_inputs
        tensors, whole = saved[: ctx.num_tensors], saved[ctx.num_tensors :]

        def weigh(chunk: Chunk, *part: Tensor) -> Sequence[Tensor]:
            # The derivative of merging: a chunk has its share of the whole.
            kind = ctx.around.state_class
            here = [kind(*(t[chunk.graphs] for t in ts)) for ts in (whole, grads)]
            found: Sequence[Tensor] = kind(*part).part_gradients(*here)
            return found

        found = chunk_gradients(
            ctx.chunks, tensors[:split], tensors[split:], ctx.around, weigh
        )
        return None, None, None, None, *found


class _MapChunks(torch.autograd.Function):
    """What is pointwise, given the states of the graphs."""

    @staticmethod
    def forward(
        ctx: Any,
        chunks: Sequence[Chunk],
        around: Surroundings,
        num_inputs: int,
        *tensors: Tensor,
    ) -> Tensor:
        x, *latents = tensors[:num_inputs]
        out: Tensor | None = None
        with around.autocast(), packed_once():
            for chunk in chunks:
                (part,) = chunk.function(
                    x[chunk.rows], *(t[chunk.graphs] for t in latents)
                )
                if out is None:
                    out = part.new_empty(x.size(0), *part.shape[1:])
                out[chunk.rows] = part
        assert out is not None
        ctx.save_for_backward(*tensors)
        ctx.chunks, ctx.around, ctx.num_inputs = chunks, around, num_inputs
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tensors, split = ctx.saved_tensors, ctx.num_inputs

        def weigh(chunk: Chunk, part: Tensor) -> Sequence[Tensor]:
            return (grads[0][chunk.rows],)

        found = chunk_gradients(
            ctx.chunks, tensors[:split], tensors[split:], ctx.around, weigh
        )
        return None, None, None, *found


def _successive(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    """Iterate over some chunks of the same graphs at a time, in their order."""
    for _, same in groupby(chunks, key=lambda chunk: chunk.graphs.indices(sys.maxsize)):
        while together := list(islice(same, _MERGED_AT_ONCE)):
            yield together


def merge_into(
    total: State | None, parts: Sequence[State], graphs: slice, num_graphs: int
) -> State:
    """Merge states of some graphs into those of all, in place.

    Sums are in double precision: thousands of merges would add up their rounding.

    Args:
        total: The states of all graphs so far; `None` at first.
        parts: States of disjoint sets of points of some graphs.
        graphs: Which they are.
        num_graphs: Number of all graphs.

    Returns:
        The states of all graphs.
    """
    first: Tensor = next(iter(parts[0]))
    exact = torch.float32 if first.device.type == "mps" else torch.float64
    if total is None:
        total = parts[0].empty_like(num_graphs, exact)
    kind: Any = type(parts[0])
    here = kind(*(t[graphs] for t in total))
    states = [here, *parts]
    stacked = kind(
        *(torch.stack([t.to(exact) for t in ts]) for ts in zip(*states, strict=True))
    )
    top = stacked.extrema().amax(dim=0)
    merged = stacked.from_sums(stacked.sums(top).sum(dim=0), top)
    for t, value in zip(total, merged, strict=True):
        t[graphs] = value
    return total


def encode_chunks(
    chunks: Sequence[Chunk],
    x: Tensor,
    latents: Sequence[Tensor],
    num_graphs: int,
    module: nn.Module,
) -> State:
    """Merge the states that the chunks give.

    Args:
        chunks: At least one; each gives the state of its graphs from its rows alone.
        x: Rows.
        latents: Tensors of which each graph has a row.
        num_graphs: Number of graphs.
        module: Its parameters are all that the chunks' functions depend on besides
            their arguments.

    Returns:
        The states of all graphs. May be differentiated any number of times.
    """
    around = Surroundings(module, x)
    state_tensors = _EncodeChunks.apply(  # type: ignore[no-untyped-call]
        chunks,
        around,
        num_graphs,
        1 + len(latents),
        x,
        *latents,
        *around.parameters,
    )
    assert around.state_class is not None
    state: State = around.state_class(*state_tensors)
    return state


def map_chunks(
    chunks: Sequence[Chunk],
    x: Tensor,
    latents: Sequence[Tensor],
    module: nn.Module,
) -> Tensor:
    """Join the rows that the chunks give.

    Args:
        chunks: At least one; each gives one output per row.
        x: Rows.
        latents: Tensors of which each graph has a row.
        module: Its parameters are all that the chunks' functions depend on besides
            their arguments.

    Returns:
        The outputs of all rows. May be differentiated any number of times.
    """
    around = Surroundings(module, x)
    y: Tensor = _MapChunks.apply(  # type: ignore[no-untyped-call]
        chunks, around, 1 + len(latents), x, *latents, *around.parameters
    )
    return y
