"""Parameters of a simulator: one number, or bounds to draw from for each sample."""

import math

import numpy as np

from torch_geometric_flare._arguments import brief, check_numbers

Parameter = float | tuple[float, float]
"""One number for all samples, or the least and the largest of those drawn."""


def check_parameter(
    name: str, value: Parameter, least: float = -math.inf, most: float = math.inf
) -> None:
    """Check a parameter.

    Args:
        name: What messages call it.
        value: The number, or the bounds of those drawn.
        least: The least number that is allowed.
        most: The largest one.

    Raises:
        TypeError: If it is neither a number nor a tuple of two.
        ValueError: If a number is not finite or beyond what is allowed, or the bounds
            are not in ascending order.
    """
    pair = value if isinstance(value, tuple) else (value, value)
    if len(pair) != 2:
        raise TypeError(f"{name} is {brief(value)}, expected a number or two bounds")
    for number in pair:
        check_numbers(**{name: number})
        if not (least <= number <= most and math.isfinite(number)):
            raise ValueError(
                f"`{name}` must be finite, from {least:g} to {most:g}, got {value!r}"
            )
    if isinstance(value, tuple) and not pair[0] < pair[1]:
        raise ValueError(
            f"`{name}` must be a lower and an upper bound, got {value!r}: for the same "
            f"number in all samples give it alone"
        )


def draw(rng: np.random.Generator, value: Parameter, *, log: bool = False) -> float:
    """Return a number drawn evenly between the bounds, or the number that is given.

    Args:
        rng: Used only where there are bounds.
        value: As `check_parameter` allows.
        log: Draw its logarithm evenly instead.
    """
    if not isinstance(value, tuple):
        return value
    if log:
        return math.exp(rng.uniform(math.log(value[0]), math.log(value[1])))
    return float(rng.uniform(*value))


def one_number(name: str, given: float | None, value: Parameter) -> float:
    """Return what is given for one solution, by default the simulator's own number.

    Args:
        name: What the message calls it.
        given: The number for this solution.
        value: The parameter of the simulator.

    Raises:
        ValueError: If nothing is given and the simulator has bounds.
    """
    if given is not None:
        return given
    if isinstance(value, tuple):
        raise ValueError(f"`{name}` is drawn from {value}: pass {name}= one number")
    return value
