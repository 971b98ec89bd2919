"""Transonic flow around airfoils: simulated, or the official set."""

from dataclasses import replace
from functools import partial

from torch_geometric_flare.datasets import Airfoil
from torch_geometric_flare.experiments.benchmark import Benchmark, Selection, Splits
from torch_geometric_flare.experiments.loading import (
    load_official,
    load_simulated,
    number_of_points,
)
from torch_geometric_flare.experiments.model_recipes import benchmark_recipes
from torch_geometric_flare.experiments.published import all_published
from torch_geometric_flare.simulation import AirfoilFlow
from torch_geometric_flare.transforms import GridStride, Normalizer, RandomMirror
from torch_geometric_flare.visualization import plot_comparison

_GRID = (221, 51)
# These keep both ends of the two axes.
_STEPS = {-(-_GRID[0] // step) * -(-_GRID[1] // step): step for step in (1, 2, 5, 10)}
# Coordinates reach 40 chords from an airfoil whose surface moves by hundredths of one:
# in chords, what tells airfoils apart is too small an input to be learned in minutes.
_UNIT = 1 / 15


def simulated_airfoils(selection: Selection) -> Splits:
    """Return simulated airfoils at every second point: 60 to train, 10 to test on.

    Coordinates are given to the network in fifteenths of a chord. In training, samples
    are mirrored at the chord at random.

    Args:
        selection: Which of them; a number of points gives the grid.

    Raises:
        ValueError: If the grid has no such number of points.
    """
    stride = GridStride(_step(selection, 2))
    splits = load_simulated(
        AirfoilFlow(),
        selection,
        num_train=60,
        num_test=10,
        input_statistics=lambda train, features: Normalizer([0.5, 0.0], [_UNIT] * 2),
    )
    return replace(
        splits,
        train=[stride(data) for data in splits.train],
        val=None if splits.val is None else [stride(data) for data in splits.val],
        test=[stride(data) for data in splits.test],
        # The flow comes along the chord: that around the mirror image of an airfoil is
        # the mirror image of the flow.
        train_transform=RandomMirror(axis=1),
    )


def official_airfoils(selection: Selection) -> Splits:
    """Return the official set: 1,000 airfoils to train on, 200 to test on.

    Args:
        selection: Which of it; a number of points gives the grid.

    Raises:
        ValueError: If the grid has no such number of points.
    """
    stride = GridStride(_step(selection, 1))
    return load_official(
        lambda split: Airfoil(selection.root, split, transform=stride),
        selection,
        available=Airfoil.fields,
    )


def _step(selection: Selection, default: int) -> int:
    """Return the step between points of the official grid."""
    if selection.num_points is None:
        return default
    step = _STEPS.get(number_of_points(selection.num_points, 0))
    if step is None:
        raise ValueError(
            f"--num-points is {selection.num_points}, but grids are every n-th point "
            f"of {_GRID[0]} × {_GRID[1]}: give one of {list(_STEPS)}"
        )
    return step


AIRFOIL = Benchmark(
    name="airfoil",
    sample="airfoil",
    load_simulated=simulated_airfoils,
    load_official=official_airfoils,
    recipes=benchmark_recipes("airfoil"),
    published=all_published("airfoil"),
    published_sizes=Airfoil.published_sizes,
    plot=partial(plot_comparison, window=((-0.5, 1.5), (-0.9, 0.9))),
    picture="mach_number",
)
"""Mach number of transonic flow around an airfoil, on a C-grid of 221 × 51 or less."""
