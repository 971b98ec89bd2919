"""Verify operators before timing them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import operators
import torch
from operators import Case, Shape
from torch import Tensor


class WrongOperator(RuntimeError):
    """An operator does not compute what it stands for."""


def outcome(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], leaves: Sequence[Tensor]
) -> list[Tensor]:
    """Output, and gradients of one fixed weighted sum of it."""
    out = function(*inputs)
    weights = torch.cos(
        torch.arange(out.numel(), dtype=out.dtype, device=out.device)
    ).view_as(out)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), leaves)]


def assert_close(
    name: str, found: Sequence[Tensor], wanted: Sequence[Tensor], tolerance: float
) -> None:
    """Compare in the 2-norm of each tensor.

    Raises:
        WrongOperator: If a relative difference exceeds `tolerance` or is not a number.
    """
    for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
        error = float((one - other).norm() / other.norm())
        if not error <= tolerance:
            part = f"gradient {number}" if number else "the output"
            raise WrongOperator(
                f"{name}: {part} is off by {error:.1e}, more than {tolerance:.0e}; a "
                "wrong operator is not timed"
            )


def check_definition(name: str, shape: Shape) -> None:
    """Compare an operator with its definition, outputs and gradients, in float64."""
    case: Case = operators.OPERATORS[name](shape, torch.float64)
    leaves = [*case.inputs, *case.parameters]
    found = outcome(case.function, case.inputs, leaves)
    wanted = outcome(case.definition, case.inputs, leaves)
    assert_close(f"{name}, {shape}", found, wanted, 1e-10)
    with torch.no_grad():
        alone = case.function(*case.inputs)
    assert_close(f"{name} without gradients, {shape}", [alone], wanted[:1], 1e-10)


def check_all(shape: Shape, num_points: Sequence[int] = (7, 63, 1000)) -> None:
    """Compare every operator with its definition on a few small point clouds."""
    for points in num_points:
        for name in operators.OPERATORS:
            check_definition(name, replace(shape, num_points=points))


def check_at_size(shape: Shape) -> None:
    """Compare FLARE with two attention calls in float32, on as many points as timed.

    Which kernel runs depends on the size, and the definition does not fit at all of
    them. Sums over so many points have rounding errors of their own.
    """
    cases = [
        operators.OPERATORS[name](shape, torch.float32)
        for name in (operators.FLARE, operators.TWO_CALLS)
    ]
    found, wanted = (outcome(case.function, case.inputs, case.inputs) for case in cases)
    assert_close(f"{operators.FLARE}, {shape}", found, wanted, 1e-3)
    with torch.no_grad():
        alone = cases[0].function(*cases[0].inputs)
    name = f"{operators.FLARE} without gradients, {shape}"
    assert_close(name, [alone], wanted[:1], 1e-4)
