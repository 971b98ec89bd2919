"""Drawing cells of a surface, so that sums over them are right on average."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def draw_cells(
    areas: Floats, number: int | None, by_area: bool, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], Floats]:
    r"""Draw cells without replacement.

    A sum over all cells is estimated without bias by the sum over the drawn cells of
    values divided by the probabilities (Horvitz and Thompson, 1952). With `by_area`,
    the probability of a cell is proportional to its area, but at most 1, and the cells
    are drawn by systematic sampling in random order (Madow, 1949), which keeps these
    probabilities exactly.

    Args:
        areas: Area of each cell.
        number: How many to draw; `None` takes all.
        by_area: Draw by area instead of uniformly.
        rng: The source of randomness.

    Shapes:
        - `areas`: $(N)$

    Returns:
        The numbers of the cells, ascending, and the probability of each to be drawn.

    Raises:
        ValueError: If there are fewer cells, or fewer with an area, than are to be
            drawn.
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
