"""Parameters of a simulator: one number, or bounds to draw from for each sample."""

import math

import numpy as np

from torch_geometric_flare._arguments import brief, check_numbers

Parameter = float | tuple[float, float]
"""One number for all samples, or the lower and upper bound of random numbers."""


def check_parameter(
    name: str, value: Parameter, least: float = -math.inf, most: float = math.inf
) -> None:
    """Validate a parameter.

    Args:
        name: Name in error messages.
        value: The number or the bounds.
        least: Minimum allowed number.
        most: Maximum allowed number.

    Raises:
        TypeError: If it is neither a number nor a tuple of two.
        ValueError: If a number is not finite or out of range, or the bounds are not in
            ascending order.
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
            f"number in all samples pass a single number"
        )


def draw(rng: np.random.Generator, value: Parameter, *, log: bool = False) -> float:
    """Return a random number between the bounds, or the fixed number.

    Args:
        rng: Random generator, used only for bounds.
        value: The number or the bounds.
        log: Whether to draw the logarithm uniformly instead of the number.
    """
    if not isinstance(value, tuple):
        return value
    if log:
        return math.exp(rng.uniform(math.log(value[0]), math.log(value[1])))
    return float(rng.uniform(*value))


def one_number(name: str, override: float | None, value: Parameter) -> float:
    """Return the number for one solution, by default that of the simulator.

    Args:
        name: Name in error messages.
        override: The number for this solution; `None` for that of the simulator.
        value: The parameter of the simulator.

    Raises:
        ValueError: If `override` is `None` and the simulator has bounds.
    """
    if override is not None:
        return override
    if isinstance(value, tuple):
        raise ValueError(f"`{name}` is drawn from {value}: pass a number as {name}")
    return value
