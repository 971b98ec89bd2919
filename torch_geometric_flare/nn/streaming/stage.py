"""Layers whose points interact through a mergeable state."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, TypeVar

import torch
from torch import Tensor

from torch_geometric_flare.functional import PointBatch, State, distributed_merge

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Latents = tuple[Tensor, ...]
"""The tensors for decoding a batch, each with one row per graph."""

R = TypeVar("R")

RECORD: ContextVar[list[Any] | None] = ContextVar("RECORD", default=None)
"""Where `recorded_states` collects; `None` outside of it."""


@contextmanager
def recorded_states() -> Iterator[list[Any]]:
    """Collect the state that decoding starts from, of every stage that runs.

    Only this thread's stages are collected, and none of a compiled network.
    """
    states: list[Any] = []
    token = RECORD.set(states)
    try:
        yield states
    finally:
        RECORD.reset(token)


def record_state(state: Any) -> None:
    """Add a state to those that are collected, if they are."""
    # A compiled network records nothing.
    if not torch.compiler.is_compiling() and (states := RECORD.get()) is not None:
        states.append(state)


class Stage(Protocol):
    """A layer whose points interact through a mergeable state.

    `encode_rows` is the only step that combines points. Because states merge, it can
    run on any subset of the points. `process` acts on the latents of each graph, and
    `decode_rows` on each point separately. A layer with `num_encodes` above one encodes
    several times and then gets the result of `process` for the preceding state. The
    same layer can therefore run on all points at once, in chunks, on points distributed
    over processes, and from file to file.

    Examples are a residual block around `FLAREConv` (`process` does nothing), around
    `PhysicsAttention` (`process` is attention among the slices), or an entire
    encode-process-decode network, whose `process` is a chain of transformer blocks.

    Rows are in the order of the layout.
    """

    @property
    def num_encodes(self) -> int:
        """Number of encodings."""

    def encode_rows(self, x: Tensor, layout: PointBatch, latents: Latents) -> State:
        """Return the state of some points [N, C]; `latents` is empty at first."""

    def process(self, state: Any, latents: Latents) -> Latents:
        """Return the latents of each graph, given the state of all its points."""

    def decode_rows(self, latents: Latents, x: Tensor, layout: PointBatch) -> Tensor:
        """Return the output rows [N, C'] at points [N, C]."""


def is_stage(module: Any) -> TypeGuard[Stage]:
    """Return whether a module has the methods of a `Stage`."""
    return all(
        callable(getattr(module, name, None))
        for name in ("encode_rows", "process", "decode_rows")
    )


def why_whole(layer: Any) -> str | None:
    """Return why a layer needs all points of a graph at once, `None` if it does not.

    Args:
        layer: A block or a mixer. If its class has the methods of a `Stage` but an
            instance may not support them, it defines `why_whole`.
    """
    if not is_stage(layer):
        return (
            f"{type(layer).__name__} has no encode_rows, process and decode_rows, and "
            "so needs all points at once"
        )
    reason: str | None = getattr(layer, "why_whole", None)
    return reason


def run_stage(
    num_encodes: int,
    encode: Callable[[Latents], State],
    process: Callable[[Any, Latents], Latents],
    decode: Callable[[Latents], R],
) -> R:
    """Encode `num_encodes` times, then decode.

    Args:
        num_encodes: Number of encodings.
        encode: Returns the state of all points, given the current latents.
        process: Returns the next latents, given the state and the current latents.
        decode: Returns the result, given the latents.
    """
    latents: Latents = ()
    for _ in range(num_encodes):
        state = encode(latents)
        latents = process(state, latents)
    if not torch.compiler.is_compiling() and RECORD.get() is not None:
        record_state(state)
    return decode(latents)


def run_whole(
    stage: Stage, x: Tensor, layout: PointBatch, group: "ProcessGroup | None"
) -> Tensor:
    """Run a stage on all points of this process at once.

    Args:
        stage: The layer.
        x: Rows in the order of the layout.
        layout: The graphs.
        group: Process group over which the points of these graphs are distributed.

    Shapes:
        - `x`: $[N, C]$
    """

    def encode(latents: Latents) -> State:
        return distributed_merge(stage.encode_rows(x, layout, latents), group)

    def decode(latents: Latents) -> Tensor:
        return stage.decode_rows(latents, x, layout)

    return run_stage(stage.num_encodes, encode, stage.process, decode)
