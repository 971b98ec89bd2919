"""Asserts of laws; each raises `AssertionError` with the largest deviation."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from torch_geometric_flare.functional import State
from torch_geometric_flare.nn.checks import check_positive


def _gradients(
    out: Tensor, wanted: Sequence[Tensor], create_graph: bool = False
) -> list[Tensor]:
    """Return gradients of a fixed weighted sum of `out`, zeros for unused tensors."""
    weights = torch.cos(torch.arange(out.numel(), dtype=out.dtype, device=out.device))
    gradients = torch.autograd.grad(
        (out * weights.view_as(out)).sum(),
        wanted,
        allow_unused=True,
        create_graph=create_graph,
    )
    return [
        torch.zeros_like(t) if g is None else g
        for t, g in zip(wanted, gradients, strict=True)
    ]


def _ragged_input(
    module: nn.Module, in_channels: int, sizes: Sequence[int]
) -> tuple[Tensor, Tensor, list[nn.Parameter]]:
    """Return random points, their batch vector, and the trainable parameters."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    like = parameters[0] if parameters else torch.empty(0, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(sum(sizes), in_channels, generator=generator, dtype=like.dtype)
    counts = torch.tensor(sizes, device=like.device)
    batch = torch.arange(len(sizes), device=like.device).repeat_interleave(counts)
    return x.to(like.device).requires_grad_(), batch, parameters


def assert_same_function(
    actual: Callable[..., Tensor],
    expected: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    *,
    atol: float = 1e-10,
    rtol: float = 1e-10,
    second_order: bool = False,
) -> None:
    """Assert that two functions have equal outputs and gradients.

    Args:
        actual: The fast path.
        expected: The reference.
        inputs: Positional arguments of both. Use float64 to avoid rounding differences.
        atol: Absolute tolerance.
        rtol: Relative tolerance.
        second_order: Whether to also compare the gradients of the gradients.

    Raises:
        AssertionError: If an output or the gradient of an input differs.
    """
    results = []
    for function in (actual, expected):
        leaves = [t.detach().clone().requires_grad_() for t in inputs]
        result = [function(*leaves)]
        result += _gradients(result[0], leaves, create_graph=second_order)
        if second_order:
            flat = torch.cat([grad.flatten() for grad in result[1:]])
            result += _gradients(flat, leaves)
        results.append(result)
    for result_value, wanted in zip(*results, strict=True):
        torch.testing.assert_close(result_value, wanted, atol=atol, rtol=rtol)


def assert_batch_invariant(
    module: nn.Module,
    in_channels: int,
    sizes: Sequence[int] = (1, 2, 63, 0, 500, 5000),
    *,
    atol: float = 1e-10,
    rtol: float = 1e-10,
) -> None:
    """Assert that the result of a graph does not depend on the rest of the batch.

    Compares outputs and the gradients of the input and of every parameter, which are
    summed over graphs.

    Args:
        module: Called as `module(x, batch, batch_size)` and, for single graphs, as
            `module(x)`. Use float64.
        in_channels: Width of the module's input.
        sizes: Number of points of each graph; zero for an empty graph.
        atol: Absolute tolerance.
        rtol: Relative tolerance.

    Raises:
        AssertionError: If a graph's output or a gradient depends on other graphs.
    """
    x, batch, parameters = _ragged_input(module, in_channels, sizes)
    together = module(x, batch, len(sizes))
    alone = torch.cat([module(part) for part in x.split(list(sizes)) if len(part)])
    torch.testing.assert_close(together, alone, atol=atol, rtol=rtol)
    for found, wanted in zip(
        _gradients(together, [x, *parameters]),
        _gradients(alone, [x, *parameters]),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, atol=atol, rtol=rtol)


def assert_chunk_invariant(
    module: nn.Module,
    in_channels: int,
    chunk_size: int,
    sizes: Sequence[int] = (1, 2, 63, 0, 500, 5000),
    *,
    atol: float = 1e-10,
    rtol: float = 1e-10,
) -> None:
    """Assert that computing in chunks of points does not change outputs and gradients.

    Args:
        module: A module with an attribute `chunk_size`, called as `module(x, batch,
            batch_size)`. Use float64.
        in_channels: Width of the module's input.
        chunk_size: Number of points per chunk, less than the total number. The
            reference processes all points at once.
        sizes: Number of points of each graph; zero for an empty graph.
        atol: Absolute tolerance.
        rtol: Relative tolerance.

    Raises:
        ValueError: If `chunk_size` is not a positive integer, or one chunk would hold
            all points.
        AssertionError: If an output or a gradient depends on the chunks.
    """
    check_positive(chunk_size=chunk_size)
    if chunk_size >= sum(sizes):
        raise ValueError(
            f"chunk_size is {chunk_size}, but one chunk would hold all {sum(sizes)} "
            "points: decrease it, or increase sizes"
        )
    x, batch, parameters = _ragged_input(module, in_channels, sizes)
    original_size = module.chunk_size
    results = []
    try:
        for size in (chunk_size, None):
            setattr(module, "chunk_size", size)  # noqa: B010
            out = module(x, batch, len(sizes))
            results.append([out, *_gradients(out, [x, *parameters])])
    finally:
        setattr(module, "chunk_size", original_size)  # noqa: B010
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, atol=atol, rtol=rtol)


def assert_permutation_equivariant(
    module: nn.Module,
    x: Tensor,
    batch: Tensor | None = None,
    *,
    atol: float = 1e-10,
    rtol: float = 1e-10,
) -> None:
    """Assert that permuting the points of each graph permutes the output equally.

    Args:
        module: Called as `module(x, batch)`.
        x: Points, $[N, C]$; use float64.
        batch: Graph of each point, sorted.
        atol: Absolute tolerance.
        rtol: Relative tolerance.

    Raises:
        AssertionError: If the output depends on the order of the points.
    """
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(x.size(0), generator=generator).to(x.device)
    if batch is not None:
        order = order[batch[order].argsort(stable=True)]
    torch.testing.assert_close(
        module(x[order], batch), module(x, batch)[order], atol=atol, rtol=rtol
    )


def assert_merge_associative(
    a: State,
    b: State,
    c: State,
    *,
    atol: float = 1e-10,
    rtol: float = 1e-10,
) -> None:
    """Assert that states merge in any order and the empty state is the identity.

    Args:
        a: A state of any class.
        b: A state of the same class and shape.
        c: A state of the same class and shape.
        atol: Absolute tolerance.
        rtol: Relative tolerance.

    Raises:
        AssertionError: If the order of merging matters.
    """
    first: Tensor = next(iter(a))
    empty = a.empty_like(len(first), first.dtype)
    expected = a.merge(b).merge(c)
    for state in (
        a.merge(b.merge(c)),
        c.merge(a).merge(b),
        a.merge(empty).merge(b).merge(c),
        empty.merge(a).merge(b.merge(c)),
    ):
        torch.testing.assert_close(tuple(state), tuple(expected), atol=atol, rtol=rtol)
