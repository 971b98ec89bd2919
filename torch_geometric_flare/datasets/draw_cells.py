"""Draw cells of a surface with known probabilities, for unbiased sums."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def draw_cells(
    areas: Floats, number: int | None, by_area: bool, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], Floats]:
    r"""Draw cells without replacement.

    The sum over the drawn cells of values divided by their probabilities is an unbiased
    estimate of the sum over all cells (Horvitz and Thompson, 1952). With `by_area`, the
    probability of a cell is proportional to its area, but at most 1, and the cells are
    drawn by systematic sampling in random order (Madow, 1949), which keeps these
    probabilities exactly.

    Args:
        areas: Area of each cell.
        number: Number of cells to draw; `None` for all.
        by_area: Draw by area instead of uniformly.
        rng: Random number generator.

    Shapes:
        - `areas`: $(N)$

    Returns:
        The indices of the cells, ascending, and their probabilities of being drawn.

    Raises:
        ValueError: If there are fewer cells, or fewer with a positive area, than
            `number`.
    """
    total = len(areas)
    if number is None:
        return np.arange(total), np.ones(total)
    there = np.count_nonzero(areas) if by_area else total
    if number > there:
        raise ValueError(
            f"num_points={number} exceeds the {there} cells of the surface"
        )
    if not by_area:
        drawn = np.sort(rng.choice(total, number, replace=False))
        return drawn, np.full(number, number / total)
    probability = np.zeros(total)
    rest = areas > 0
    while True:
        left = number - np.count_nonzero(probability == 1)
        if left == 0:
            break
        probability[rest] = left * areas[rest] / areas[rest].sum()
        large = rest & (probability > 1 - 1e-9)
        if not large.any():
            break
        probability[large] = 1
        rest &= ~large
    order = rng.permutation(np.flatnonzero(rest)) if left else np.empty(0, np.int64)
    ends = np.cumsum(probability[order])
    ticks = (rng.random() + np.arange(left)) * (ends[-1] / left if left else 1)
    drawn = np.concatenate(
        [np.flatnonzero(probability == 1), order[np.searchsorted(ends, ticks, "right")]]
    )
    drawn.sort()
    return drawn, probability[drawn]
