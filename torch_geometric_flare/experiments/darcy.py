"""Flow through a porous square: simulated, or the official set."""

import math

from torch_geometric_flare import recipes
from torch_geometric_flare.datasets import Darcy
from torch_geometric_flare.experiments.benchmark import Benchmark, Selection, Splits
from torch_geometric_flare.experiments.loading import (
    load_official,
    load_simulated,
    number_of_points,
)
from torch_geometric_flare.experiments.published import flare_paper
from torch_geometric_flare.simulation import DarcyFlow
from torch_geometric_flare.transforms import Normalizer

_SOLVED = 169  # points along a side of the grid on which simulated flows are solved
_OFFICIAL = 421


def simulated_flows(selection: Selection) -> Splits:
    """Return simulated flows: 800 to train on, 100 to test on, on grids of 43 × 43.

    Args:
        selection: Which of them; a number of points gives the grid.
    """
    side = _side(selection, 43, _SOLVED)
    flow = DarcyFlow(resolution=side)
    return load_simulated(flow, selection, num_train=800, num_test=100)


def official_flows(selection: Selection) -> Splits:
    """Return the official set: 1,000 flows to train on, 200 to test on, 85 × 85.

    Args:
        selection: Which of it; a number of points gives the grid.
    """
    step = (_OFFICIAL - 1) // (_side(selection, 85, _OFFICIAL) - 1)
    return load_official(
        lambda split: Darcy(selection.root, split, step=step),
        selection,
        coordinate_normalizer=Normalizer.from_bounds([0.0, 0.0], [1.0, 1.0]),
    )


def _side(selection: Selection, default: int, finest: int) -> int:
    """Return the points along a side of the selected grid."""
    number = number_of_points(selection.num_points, default**2)
    side = math.isqrt(number)
    if side**2 != number or side < 3 or (finest - 1) % (side - 1):
        sides = [s for s in range(8, finest + 1) if (finest - 1) % (s - 1) == 0]
        raise ValueError(
            f"--num-points is {selection.num_points}, but grids are every n-th point "
            f"of {finest} × {finest}: give one of {[s**2 for s in sides]}"
        )
    return side


DARCY = Benchmark(
    name="darcy",
    sample="flow",
    load_simulated=simulated_flows,
    load_official=official_flows,
    recipes={
        ("FLARE", "quick"): recipes.FLARE_DARCY_QUICK,
        ("FLARE", "paper"): recipes.FLARE_DARCY,
    },
    published=flare_paper("darcy"),
    picture="pressure",
)
"""Pressure of a flow through a medium of two permeabilities, on a square grid."""
