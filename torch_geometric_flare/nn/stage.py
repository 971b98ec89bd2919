"""Layers on points that see each other through a state: what a network is made of."""

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeGuard, TypeVar

from torch import Tensor

from torch_geometric_flare.functional import PointBatch, State, distributed_merge

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Latents = tuple[Tensor, ...]
"""What decoding needs of a batch: tensors of which each graph has a row."""

Step = Literal["encode_rows", "process", "decode_rows"]
"""A method of a stage, as a block's forward takes it in `step`."""

R = TypeVar("R")


class Stage(Protocol):
    """A layer whose points see each other through a state that merges.

    `encode_rows` is the only step that sees more than one point; it may be taken of any
    part of the points, since states merge. `process` works on the latents of each
    graph, `decode_rows` on each point by itself. A layer that encodes several times
    has `num_encodes` above one: it then gets what `process` has made of the state
    before. So the same layer runs on all points at once, in chunks, on points spread
    over processes, and from file to file.

    Examples are a residual block around `FLAREConv` (`process` does nothing), around
    `PhysicsAttention` (`process` is attention among the slices), or a whole
    encode-process-decode network, whose `process` is a chain of transformer blocks.

    Rows are in the order of the layout.

    A block whose forward takes `step=None, latents=()`, and returns `take_step` where
    there is a step, can be wrapped or hooked: chunks then go through its call.
    """

    @property
    def num_encodes(self) -> int:
        """How often it encodes."""

    def encode_rows(self, x: Tensor, layout: PointBatch, latents: Latents) -> State:
        """Return the state of some points [N, C]; `latents` is empty at first."""

    def process(self, state: Any, latents: Latents) -> Latents:
        """Return the latents of each graph from the state of all of its points."""

    def decode_rows(self, latents: Latents, x: Tensor, layout: PointBatch) -> Tensor:
        """Return the rows [N, C'] that leave the layer at points [N, C]."""


def is_stage(module: Any) -> TypeGuard[Stage]:
    """Return whether a module has the methods of a `Stage`."""
    return all(
        callable(getattr(module, name, None))
        for name in ("encode_rows", "process", "decode_rows")
    )


def take_step(
    stage: Stage, step: Step, x: Any, layout: PointBatch | None, latents: Latents
) -> Any:
    """Take one step of a stage: what its forward returns for a `step`.

    Args:
        stage: The layer.
        step: The method.
        x: Rows; for `process` the state.
        layout: The graphs; `None` for `process`.
        latents: What the step depends on, of each graph.
    """
    if step == "process":
        return stage.process(x, latents)
    assert layout is not None
    if step == "encode_rows":
        return stage.encode_rows(x, layout, latents)
    return stage.decode_rows(latents, x, layout)


@lru_cache(maxsize=64)
def _takes_steps(forward: Callable[..., Any]) -> bool:
    return "step" in inspect.signature(forward).parameters


def call_step(
    stage: Any, step: Step, x: Any, layout: PointBatch | None, latents: Latents
) -> Any:
    """Take one step through the call of the module, for hooks and wrappers of it.

    So a block is compiled, checkpointed or sharded in steps as it is as a whole. A
    stage whose forward knows no `step` is asked by its method.

    Args:
        stage: A `Stage` that is a module, or a wrapper of one.
        step: The method.
        x: Rows; for `process` the state.
        layout: The graphs; `None` for `process`.
        latents: What the step depends on, of each graph.
    """
    # A wrapper hands on the method of the module inside.
    inside = getattr(stage.encode_rows, "__self__", stage)
    if _takes_steps(type(inside).forward):
        return stage(x, layout, step=step, latents=latents)
    return take_step(stage, step, x, layout, latents)


def run_stage(
    num_encodes: int,
    encode: Callable[[Latents], State],
    process: Callable[[Any, Latents], Latents],
    decode: Callable[[Latents], R],
) -> R:
    """Encode as often as a stage asks for, then decode.

    Args:
        num_encodes: How often.
        encode: Returns the state of all points, from the latents so far.
        process: Returns the next latents, from the state and the latents so far.
        decode: Returns the result from the latents.
    """
    latents: Latents = ()
    for _ in range(num_encodes):
        latents = process(encode(latents), latents)
    return decode(latents)


def run_whole(
    stage: Stage, x: Tensor, layout: PointBatch, group: "ProcessGroup | None"
) -> Tensor:
    """Run a stage on all points of this process at once.

    Args:
        stage: The layer.
        x: Rows in the order of the layout.
        layout: The graphs.
        group: Processes that hold the other points of these graphs.

    Shapes:
        - `x`: $[N, C]$
    """

    def encode(latents: Latents) -> State:
        return distributed_merge(stage.encode_rows(x, layout, latents), group)

    def decode(latents: Latents) -> Tensor:
        return stage.decode_rows(latents, x, layout)

    return run_stage(stage.num_encodes, encode, stage.process, decode)
