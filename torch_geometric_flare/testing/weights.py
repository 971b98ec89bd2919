"""Asserts of laws for weighted points."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_geometric_flare.testing.laws import _gradients, _ragged_input


def assert_weights_split(
    module: nn.Module,
    in_channels: int,
    sizes: Sequence[int] = (1, 40, 0, 300),
    *,
    atol: float = 1e-10,
    rtol: float = 1e-10,
) -> None:
    """Assert that splitting a point into two that share its weight changes nothing.

    One point of each graph is split at its position. The outputs at all other points,
    at both parts, and the gradients of the input and of every parameter must not
    change.

    Args:
        module: Called as `module(x, batch, batch_size, weight=weight)`. Use float64.
        in_channels: Width of the module's input.
        sizes: Number of points of each graph; zero for an empty graph.
        atol: Absolute tolerance.
        rtol: Relative tolerance.

    Raises:
        AssertionError: If an output or a gradient depends on the split.
    """
    x, batch, parameters = _ragged_input(module, in_channels, sizes)
    weight = _draw(x)
    starts = torch.tensor([0, *sizes]).cumsum(0)[:-1].to(x.device)
    is_nonempty = torch.tensor([size > 0 for size in sizes], device=x.device)
    split = starts[is_nonempty]
    # Each split point is followed by its second part.
    repeats = torch.ones_like(batch)
    repeats[split] = 2
    source = torch.arange(len(x), device=x.device).repeat_interleave(repeats)
    first = torch.cat([source.new_ones(1, dtype=torch.bool), source.diff() > 0])
    shares = weight[source]
    shares[first & (repeats[source] == 2)] *= 0.3
    shares[~first] *= 0.7
    whole = module(x, batch, len(sizes), weight=weight)
    parts = module(x[source], batch[source], len(sizes), weight=shares)
    torch.testing.assert_close(parts, whole[source], atol=atol, rtol=rtol)
    tensors = [x, *parameters]
    for actual, expected in zip(
        _gradients(parts[first], tensors), _gradients(whole, tensors), strict=True
    ):
        torch.testing.assert_close(actual, expected, atol=atol, rtol=rtol)


def assert_weights_scale(
    module: nn.Module,
    in_channels: int,
    sizes: Sequence[int] = (1, 40, 0, 300),
    *,
    atol: float = 1e-10,
    rtol: float = 1e-10,
) -> None:
    """Assert that scaling all weights of a graph changes nothing.

    Args:
        module: As in `assert_weights_split`.
        in_channels: Width of the module's input.
        sizes: Number of points of each graph; each graph gets another factor.
        atol: Absolute tolerance.
        rtol: Relative tolerance.

    Raises:
        AssertionError: If an output or a gradient depends on the unit of weights.
    """
    x, batch, _ = _ragged_input(module, in_channels, sizes)
    weight = _draw(x)
    factors = torch.logspace(-6, 3, max(1, len(sizes)), dtype=x.dtype, device=x.device)
    _compare(module, in_channels, sizes, weight, factors[batch] * weight, atol, rtol)


def assert_weights_of_one(
    module: nn.Module,
    in_channels: int,
    sizes: Sequence[int] = (1, 40, 0, 300),
    *,
    atol: float = 1e-10,
    rtol: float = 1e-10,
) -> None:
    """Assert that weights of one give the same outputs and gradients as no weights.

    Args:
        module: As in `assert_weights_split`.
        in_channels: Width of the module's input.
        sizes: Points of each graph.
        atol: Absolute tolerance.
        rtol: Relative tolerance.

    Raises:
        AssertionError: If an output or a gradient differs.
    """
    ones = torch.ones_like(_draw(_ragged_input(module, in_channels, sizes)[0]))
    _compare(module, in_channels, sizes, None, ones, atol, rtol)


def assert_weightless_points_receive(
    module: nn.Module,
    in_channels: int,
    sizes: Sequence[int] = (2, 40, 0, 300),
    *,
    atol: float = 1e-10,
    rtol: float = 1e-10,
) -> None:
    """Assert that points with weight zero get outputs but do not affect other points.

    Args:
        module: As in `assert_weights_split`.
        in_channels: Width of the module's input.
        sizes: Number of points of each graph; every second point has weight zero.
        atol: Absolute tolerance.
        rtol: Relative tolerance.

    Raises:
        AssertionError: If an output at another point depends on them, or their output
            is not finite.
    """
    x, batch, _ = _ragged_input(module, in_channels, sizes)
    x = x.detach()
    weight = _draw(x)
    weight[1::2] = 0
    kept = weight > 0
    alone = module(x[kept], batch[kept], len(sizes), weight=weight[kept])
    together = module(x, batch, len(sizes), weight=weight)
    torch.testing.assert_close(together[kept], alone, atol=atol, rtol=rtol)
    if not together.isfinite().all():
        raise AssertionError("the output at a point of weight zero is not finite")


def _draw(x: Tensor) -> Tensor:
    """Return random weights that vary by a factor of up to a hundred."""
    generator = torch.Generator().manual_seed(1)
    exponents = torch.rand(len(x), generator=generator, dtype=torch.float64)
    return (100**exponents).to(x)


def _compare(
    module: nn.Module,
    in_channels: int,
    sizes: Sequence[int],
    first: Tensor | None,
    second: Tensor,
    atol: float,
    rtol: float,
) -> None:
    """Compare the outputs and gradients for two choices of weights."""
    x, batch, parameters = _ragged_input(module, in_channels, sizes)
    results = []
    for weight in (first, second):
        out = module(x, batch, len(sizes), weight=weight)
        results.append([out, *_gradients(out, [x, *parameters])])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, atol=atol, rtol=rtol)
