"""Loops over chunks of points, each loop a single node of the autograd graph.

Backward recomputes each chunk: a loop keeps its input and the latents, and nothing else
that grows with the points. It reads and writes tensors of all points. With one node per
chunk, small tensors that outlive their chunk would lie between the temporary ones of
the next, and leave the heap full of holes: ten times the memory.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import get_device_states, set_device_states

from torch_geometric_flare.functional import State

# The gradients of what a chunk gives, from the chunk and what it gives.
Weigh = Callable[..., Sequence[Tensor]]


class Chunk(NamedTuple):
    """A part of a loop: `function(x[rows], *(t[graphs] for t in latents))`.

    Args:
        function: Gives a tuple of tensors.
        rows: Rows of the chunk.
        graphs: The graphs that they belong to.
    """

    function: Callable[..., Any]
    rows: slice
    graphs: slice = slice(0)

    def places(self, num_inputs: int) -> list[slice]:
        """Return where its share of each input lies."""
        return [self.rows, *[self.graphs] * (num_inputs - 1)]


class _Bound(nn.Module):
    """Functions of a module's parameters, to be called with others."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(
        self, function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        return function(*inputs)


class _Surroundings:
    """Parameters, autocast and random numbers as a loop finds them."""

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        self.module = module
        # Class of the states, known once the first chunk is encoded.
        self.state_class: Callable[..., Any] | None = None
        self.names, self.parameters = [], []
        for name, parameter in module.named_parameters():
            self.names.append(name)
            self.parameters.append(parameter)
        self.device = x.device.type
        # Copies of weights must not be cached: they are made here without a graph, and
        # would be found by later layers that need one.
        self.autocast = partial(
            torch.autocast,
            self.device,
            torch.get_autocast_dtype(self.device),
            torch.is_autocast_enabled(self.device),
            cache_enabled=False,
        )
        self.random = torch.get_rng_state()
        self.devices, self.device_random = get_device_states(x)

    def bind(self, parameters: Sequence[Tensor]) -> Callable[..., tuple[Tensor, ...]]:
        """Call functions of the module with the parameters that forward saw.

        The module may have others by now: `functional_call` lends them for a forward.
        """
        own = dict(self.module.named_parameters())
        pairs = list(zip(self.names, parameters, strict=True))
        if all(own.get(name) is parameter for name, parameter in pairs):
            return lambda function, *inputs: function(*inputs)
        bound = _Bound(self.module)
        seen = {f"module.{name}": parameter for name, parameter in pairs}
        return lambda *arguments: functional_call(bound, seen, arguments)

    @contextmanager
    def same_random_numbers(self) -> Iterator[None]:
        """Draw the same numbers again, and leave no trace."""
        with torch.random.fork_rng(self.devices, device_type=self.device):
            torch.set_rng_state(self.random)
            set_device_states(self.devices, self.device_random, device_type=self.device)
            yield


class _Cut(torch.autograd.Function):
    """The identity, which lets no gradient through until it has healed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, healed: list[bool]) -> Tensor:
        ctx.healed = healed
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None]:
        return grads[0] if ctx.healed else None, None


def _gradients(
    chunk: Chunk,
    inputs: Sequence[Tensor],
    parameters: Sequence[Tensor],
    around: _Surroundings,
    call: Callable[..., tuple[Tensor, ...]],
    weigh: Weigh,
) -> list[Tensor | None]:
    """Recompute a chunk, and its direct gradients by inputs and parameters.

    An input may have been computed from the parameters or from another input. That way
    to the gradient belongs to whoever computed it, so inputs are cut off. The cut heals
    afterwards, since these gradients may be differentiated themselves.
    """
    differentiable = torch.is_grad_enabled()
    healed: list[bool] = []
    leaves: list[Tensor] = []
    for t, place in zip(inputs, chunk.places(len(inputs)), strict=True):
        if differentiable:
            leaves.append(_Cut.apply(t[place], healed))  # type: ignore[no-untyped-call]
        else:
            leaves.append(t[place].detach().requires_grad_(t.requires_grad))
    with torch.enable_grad(), around.autocast():
        outputs = call(chunk.function, *leaves)
    weighted = [
        (output, weight)
        for output, weight in zip(outputs, weigh(chunk, *outputs), strict=True)
        if output.requires_grad
    ]
    wanted = [t.requires_grad for t in (*leaves, *parameters)]
    if not weighted:
        return [None] * len(wanted)
    found = iter(
        torch.autograd.grad(
            [output for output, _ in weighted],
            [t for t in (*leaves, *parameters) if t.requires_grad],
            [weight for _, weight in weighted],
            create_graph=differentiable,
            allow_unused=True,
        )
    )
    healed.append(True)
    return [next(found) if want else None for want in wanted]


def _backward(
    chunks: Sequence[Chunk],
    inputs: Sequence[Tensor],
    parameters: Sequence[Tensor],
    around: _Surroundings,
    weigh: Weigh,
) -> list[Tensor | None]:
    """Return gradients of a loop by its inputs and parameters."""
    targets = [*inputs, *parameters]
    totals: list[Tensor | None] = [None] * len(targets)
    call = around.bind(parameters)
    with around.same_random_numbers():
        for chunk in chunks:
            places: list[Any] = [*chunk.places(len(inputs)), *[...] * len(parameters)]
            grads = _gradients(chunk, inputs, parameters, around, call, weigh)
            for i, grad in enumerate(grads):
                if grad is not None:
                    total = totals[i]
                    if total is None:
                        total = totals[i] = torch.zeros_like(targets[i])
                    total[places[i]].add_(grad)
    return totals


class _EncodeChunks(torch.autograd.Function):
    """The states of all graphs from those of the chunks."""

    @staticmethod
    def forward(
        ctx: Any,
        chunks: Sequence[Chunk],
        around: _Surroundings,
        num_graphs: int,
        num_inputs: int,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        inputs = tensors[:num_inputs]
        total: Any = None
        for chunk in chunks:
            places = chunk.places(num_inputs)
            with around.autocast():
                part: Any = chunk.function(
                    *(t[place] for t, place in zip(inputs, places, strict=True))
                )
            total = merge_into(total, part, chunk.graphs, num_graphs)
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

        found = _backward(
            ctx.chunks, tensors[:split], tensors[split:], ctx.around, weigh
        )
        return None, None, None, None, *found


class _MapChunks(torch.autograd.Function):
    """What is pointwise, given the states of the graphs."""

    @staticmethod
    def forward(
        ctx: Any,
        chunks: Sequence[Chunk],
        around: _Surroundings,
        num_inputs: int,
        *tensors: Tensor,
    ) -> Tensor:
        inputs = tensors[:num_inputs]
        out: Tensor | None = None
        for chunk in chunks:
            places = chunk.places(num_inputs)
            with around.autocast():
                (part,) = chunk.function(
                    *(t[place] for t, place in zip(inputs, places, strict=True))
                )
            if out is None:
                out = part.new_empty(inputs[0].size(0), *part.shape[1:])
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

        found = _backward(
            ctx.chunks, tensors[:split], tensors[split:], ctx.around, weigh
        )
        return None, None, None, *found


def merge_into(
    total: State | None, part: State, graphs: slice, num_graphs: int
) -> State:
    """Merge the states of some graphs into those of all, in place.

    Sums are in double precision: thousands of merges would add up their rounding.

    Args:
        total: The states of all graphs so far; `None` at first.
        part: The states of some graphs.
        graphs: Which they are.
        num_graphs: Number of all graphs.

    Returns:
        The states of all graphs.
    """
    first: Tensor = next(iter(part))
    exact = torch.float32 if first.device.type == "mps" else torch.float64
    if total is None:
        total = part.empty_like(num_graphs, exact)
    kind: Any = type(part)
    here = kind(*(t[graphs] for t in total))
    merged = here.merge(kind(*(t.to(exact) for t in part)))
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
    around = _Surroundings(module, x)
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
    around = _Surroundings(module, x)
    y: Tensor = _MapChunks.apply(  # type: ignore[no-untyped-call]
        chunks, around, 1 + len(latents), x, *latents, *around.parameters
    )
    return y
