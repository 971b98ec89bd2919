"""Flow through a porous square: simulated or official data."""

import math

from torch_geometric_flare.datasets import Darcy
from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.experiments.loading import (
    load_official,
    load_simulated,
    number_of_points,
)
from torch_geometric_flare.experiments.published import all_published
from torch_geometric_flare.experiments.splits import Selection, Splits
from torch_geometric_flare.recipes import RECIPES
from torch_geometric_flare.simulation import DarcyFlow
from torch_geometric_flare.transforms import Normalizer

_OFFICIAL = 421  # points along a side of the grids in the files


def simulated_flows(selection: Selection) -> Splits:
    """Return simulated flows: 1,000 for training and 100 for testing, 43 × 43 points.

    They are computed on grids with half the spacing.

    Args:
        selection: The selection; the number of points determines the grid.
    """
    side = _side(selection, 43)
    flow = DarcyFlow(resolution=side, solve_resolution=2 * side - 1)
    return load_simulated(flow, selection, num_train=1000, num_test=100)


def official_flows(selection: Selection) -> Splits:
    """Return the official data: 1,000 flows for training and 200 for testing, 85 × 85.

    Args:
        selection: The selection; the number of points determines the grid.
    """
    side = _side(selection, 85)
    if (_OFFICIAL - 1) % (side - 1):
        sides = [s for s in range(8, _OFFICIAL + 1) if (_OFFICIAL - 1) % (s - 1) == 0]
        raise ValueError(
            f"--num-points is {selection.num_points}, but official grids are every "
            f"n-th point of 421 × 421: give one of {[s**2 for s in sides]}"
        )
    step = (_OFFICIAL - 1) // (side - 1)
    return load_official(
        lambda split: Darcy(selection.root, split, step=step),
        selection,
        available=Darcy.fields,
        coordinate_normalizer=Normalizer.from_bounds([0.0, 0.0], [1.0, 1.0]),
    )


def _side(selection: Selection, default: int) -> int:
    """Return the number of points along a side of the selected grid."""
    number = number_of_points(selection.num_points, default**2)
    side = math.isqrt(number)
    if side**2 != number or side < 8:
        raise ValueError(
            f"--num-points is {selection.num_points}, but grids are square, of 8 × 8 "
            "points at least: give a number such as 1849 (43 × 43) or 7225 (85 × 85)"
        )
    return side


DARCY = Benchmark(
    name="darcy",
    sample="flow",
    load_simulated=simulated_flows,
    load_official=official_flows,
    recipes=RECIPES.of_problem("darcy"),
    published=all_published("darcy"),
    published_sizes=Darcy.published_sizes,
    picture="pressure",
)
"""Pressure of a flow through a medium with two permeabilities, on a square grid."""
