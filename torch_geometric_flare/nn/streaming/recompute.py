"""Recomputation of chunks of points in backward."""

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
    """One iteration of a loop: `function(x[rows], *[t[graphs] for t in latents])`.

    Args:
        function: Returns a tuple of tensors.
        rows: Rows of the chunk.
        graphs: The graphs of these rows.
    """

    function: Callable[..., Any]
    rows: slice
    graphs: slice = slice(0)

    def parts(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the slice of each input, of `x` and of the latents."""
        x, *latents = inputs
        return [x[self.rows], *[t[self.graphs] for t in latents]]


class _WithParameters(nn.Module):
    """A wrapper that allows `functional_call` to replace a module's parameters."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(
        self, function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        return function(*inputs)


def sharded_parts(module: nn.Module) -> list[Any]:
    """Return the submodules to which `fully_shard` was applied."""
    # Do not import this module, which is slow: without it, nothing is sharded.
    fsdp = sys.modules.get("torch.distributed.fsdp")
    kind = getattr(fsdp, "FSDPModule", None)
    return [] if kind is None else [m for m in module.modules() if isinstance(m, kind)]


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Gather sharded weights once, for methods called instead of forward."""
    parts = sharded_parts(module)
    if parts and torch.is_grad_enabled():
        # Chunks would compute gradients of the gathered copies, not of the shards.
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
    """The context of a recomputation: parameters, autocast and random state.

    Args:
        module: The module whose parameters the chunks use.
        x: Rows, which determine the device.
    """

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        self.module = module
        # Class of the states, set when the first chunk is encoded.
        self.state_class: Any = None
        parameters = dict(module.named_parameters())
        self.names, self.parameters = [*parameters], [*parameters.values()]
        self.device = x.device.type
        # Autocast must not cache its copies of weights: they are created here without a
        # graph, and later layers that need a graph would reuse them.
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

        They differ from the current ones if `functional_call` replaced them in forward.
        """
        current = dict(self.module.named_parameters())
        pairs = list(zip(self.names, parameters, strict=True))
        if all(current.get(name) is parameter for name, parameter in pairs):
            return lambda function, *inputs: function(*inputs)
        wrapped = _WithParameters(self.module)
        replaced = {f"module.{name}": parameter for name, parameter in pairs}
        return lambda *arguments: functional_call(wrapped, replaced, arguments)

    @contextmanager
    def same_random_numbers(self) -> Iterator[None]:
        """Reproduce the random numbers of forward, then restore the random state."""
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
        """Recompute chunks and return the gradients of their inputs and parameters.

        If an input depends on the parameters or on another input, autograd adds that
        part of the gradient elsewhere. Therefore, gradients are computed with respect
        to views that only the chunk uses. The views keep a graph if gradients must be
        differentiable.

        Args:
            chunks: The chunks.
            inputs: The rows, and latents with one row per graph.
            parameters: The parameters of the module in forward.
            output_gradients: Called with a chunk and its outputs; returns the gradients
                of these outputs.
        """
        create_graph = torch.is_grad_enabled()
        targets = [*inputs, *parameters]
        used = [t.view_as(t) for t in parameters] if create_graph else parameters
        wanted = [t.requires_grad for t in targets]
        totals: list[Tensor | None] = [None] * len(targets)
        call = self.with_parameters(used)
        with self.same_random_numbers(), packed_once():
            for chunk in chunks:
                leaves = chunk.parts(inputs)
                if not create_graph:
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
                        create_graph=create_graph,
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
