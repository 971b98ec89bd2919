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


class Chunk(NamedTuple):
    """A part of a loop: `function(x[rows], *[t[graphs] for t in latents])`.

    Args:
        function: Returns a tuple of tensors.
        rows: Rows of the chunk.
        graphs: The graphs that they belong to.
    """

    function: Callable[..., Any]
    rows: slice
    graphs: slice = slice(0)

    def parts(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the part of each input, of `x` and of the latents."""
        x, *latents = inputs
        return [x[self.rows], *[t[self.graphs] for t in latents]]


class _WithParameters(nn.Module):
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
    # Nothing is sharded before the first import of this module, which is slow.
    fsdp = sys.modules.get("torch.distributed.fsdp")
    kind = getattr(fsdp, "FSDPModule", None)
    return [] if kind is None else [m for m in module.modules() if isinstance(m, kind)]


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Gather sharded weights once, for methods that are called in place of forward."""
    parts = sharded_parts(module)
    if parts and torch.is_grad_enabled():
        # Chunks would return gradients of the gathered copies, not of the shards.
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


class Context:
    """The context of a recomputation: parameters, autocast and random numbers.

    Args:
        module: Its parameters are all that chunks depend on besides their inputs.
        x: Rows, which tell the device.
    """

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        self.module = module
        # Class of the states, known once the first chunk is encoded.
        self.state_class: Any = None
        parameters = dict(module.named_parameters())
        self.names, self.parameters = [*parameters], [*parameters.values()]
        self.device = x.device.type
        # Autocast must not cache its copies of weights: made here without a graph,
        # later layers that need one would reuse them.
        self.autocast = partial(
            torch.autocast,
            self.device,
            torch.get_autocast_dtype(self.device),
            torch.is_autocast_enabled(self.device),
            cache_enabled=False,
        )
        self.random = torch.get_rng_state()
        self.devices, self.device_random = get_device_states(x)

    def with_parameters(
        self, parameters: Sequence[Tensor]
    ) -> Callable[..., tuple[Tensor, ...]]:
        """Return a callable that runs a function with these parameters of the module.

        They may differ from its own: `functional_call` replaces them for a forward.
        """
        own = dict(self.module.named_parameters())
        pairs = list(zip(self.names, parameters, strict=True))
        if all(own.get(name) is parameter for name, parameter in pairs):
            return lambda function, *inputs: function(*inputs)
        wrapped = _WithParameters(self.module)
        lent = {f"module.{name}": parameter for name, parameter in pairs}
        return lambda *arguments: functional_call(wrapped, lent, arguments)

    @contextmanager
    def same_random_numbers(self) -> Iterator[None]:
        """Draw the random numbers of forward again, and restore the random state."""
        with torch.random.fork_rng(self.devices, device_type=self.device):
            torch.set_rng_state(self.random)
            set_device_states(self.devices, self.device_random, device_type=self.device)
            yield

    def gradients(
        self,
        chunks: Sequence[Chunk],
        inputs: Sequence[Tensor],
        parameters: Sequence[Tensor],
        output_gradients: Callable[..., Sequence[Tensor]],
    ) -> list[Tensor | None]:
        """Recompute chunks, and return gradients for their inputs and parameters.

        An input may depend on the parameters or on another input; autograd adds that
        part of the gradient elsewhere. So gradients are taken for views, which only the
        chunk uses. The views keep a graph where gradients may be differentiated.

        Args:
            chunks: The chunks.
            inputs: The rows, and latents of which each graph has a row.
            parameters: Those of the module in forward.
            output_gradients: Returns the gradients for what a chunk returns, from the
                chunk and what it returns.
        """
        again = torch.is_grad_enabled()
        targets = [*inputs, *parameters]
        used = [t.view_as(t) for t in parameters] if again else parameters
        wanted = [t.requires_grad for t in targets]
        totals: list[Tensor | None] = [None] * len(targets)
        call = self.with_parameters(used)
        with self.same_random_numbers(), packed_once():
            for chunk in chunks:
                leaves = chunk.parts(inputs)
                if not again:
                    leaves = [
                        leaf.detach().requires_grad_(want)
                        for leaf, want in zip(leaves, wanted, strict=False)
                    ]
                with torch.enable_grad(), self.autocast():
                    outputs = call(chunk.function, *leaves)
                weighted = [
                    pair
                    for pair in zip(
                        outputs, output_gradients(chunk, *outputs), strict=True
                    )
                    if pair[0].requires_grad
                ]
                if not weighted:
                    continue
                grads = iter(
                    torch.autograd.grad(
                        [output for output, _ in weighted],
                        [t for t in (*leaves, *used) if t.requires_grad],
                        [weight for _, weight in weighted],
                        create_graph=again,
                        allow_unused=True,
                    )
                )
                for i, want in enumerate(wanted):
                    grad = next(grads) if want else None
                    if grad is None:
                        continue
                    total = totals[i]
                    if total is None:
                        total = totals[i] = torch.zeros_like(targets[i])
                    if i < len(inputs):
                        total = total[chunk.rows if i == 0 else chunk.graphs]
                    total.add_(grad)
        return totals
