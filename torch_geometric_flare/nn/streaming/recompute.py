"""Recompute chunks of points in backward, and their gradients."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import get_device_states, set_device_states

from torch_geometric_flare.functional.mlp import packed_once

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


def sharded_parts(module: nn.Module) -> list[Any]:
    """Return the parts of a module that `fully_shard` was applied to."""
    # Without this import, which takes long, nothing is.
    fsdp = sys.modules.get("torch.distributed.fsdp")
    kind = getattr(fsdp, "FSDPModule", None)
    return [] if kind is None else [m for m in module.modules() if isinstance(m, kind)]


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Gather sharded weights once, for methods that are called in place of forward."""
    parts = sharded_parts(module)
    if parts and torch.is_grad_enabled():
        # The chunks of backward would find the gradients of gathered copies.
        raise ValueError(
            "chunk_size is set, but the weights are sharded over processes "
            "(fully_shard), and gradients in chunks would be lost: set "
            "chunk_size=None to train, or predict under torch.no_grad()"
        )
    for part in parts:
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()


class Surroundings:
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
    around: Surroundings,
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


def chunk_gradients(
    chunks: Sequence[Chunk],
    inputs: Sequence[Tensor],
    parameters: Sequence[Tensor],
    around: Surroundings,
    weigh: Weigh,
) -> list[Tensor | None]:
    """Return gradients of a loop by its inputs and parameters."""
    targets = [*inputs, *parameters]
    totals: list[Tensor | None] = [None] * len(targets)
    call = around.bind(parameters)
    with around.same_random_numbers(), packed_once():
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
