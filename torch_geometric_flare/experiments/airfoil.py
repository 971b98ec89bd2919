"""Transonic flow around airfoils: simulated or official data."""

from dataclasses import replace
from functools import partial

from torch_geometric.transforms import Compose

from torch_geometric_flare.datasets import Airfoil
from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.experiments.loading import (
    coordinate_statistics,
    load_official,
    load_simulated,
    number_of_points,
)
from torch_geometric_flare.experiments.published import all_published
from torch_geometric_flare.experiments.splits import Selection, Splits
from torch_geometric_flare.recipes import RECIPES
from torch_geometric_flare.simulation import AirfoilFlow
from torch_geometric_flare.transforms import GridStride, RandomMirror, WallFeatures
from torch_geometric_flare.visualization import plot_comparison

_GRID = (221, 51)
# With these strides the subgrid has both ends of each axis.
_STEPS = {-(-_GRID[0] // step) * -(-_GRID[1] // step): step for step in (1, 2, 5, 10)}
_CONDITIONED = AirfoilFlow(mach=(0.6, 0.82), incidence=(-2.0, 2.0))
# Chord lengths: offsets from the wall are linear below it, and logarithmic above.
_UNIT = 1 / 15


def simulated_airfoils(selection: Selection) -> Splits:
    """Return simulated airfoils at every second point: 60 for training, 10 for testing.

    The input includes `WallFeatures`, since the coordinates extend to 40 chord lengths
    while the surface varies by hundredths of one. Training samples are randomly
    mirrored at the chord line. With conditions, the Mach number of the free stream is
    uniform in [0.6, 0.82], and the angle of attack in ±2°.

    Args:
        selection: The selection; the number of points determines the grid.

    Raises:
        ValueError: If no subgrid has this number of points.
    """
    stride = GridStride(_step(selection, 2))  # raises before anything is simulated
    wall = WallFeatures(_UNIT, reach=2.0)
    flow = _CONDITIONED if selection.conditions else AirfoilFlow()
    splits = load_simulated(flow, selection, num_train=60, num_test=10)
    splits = splits.transform(Compose([stride, wall]))
    features = wall.fields(dimension=2)
    names = [condition.name for condition in splits.conditions]
    odd = [names.index("incidence")] if names else []
    return replace(
        splits,
        features=features,
        input_normalizer=coordinate_statistics(splits.train, features),
        # The flow around a mirrored airfoil at the opposite angle of attack is the
        # mirrored flow.
        train_transform=Compose([RandomMirror(axis=1, odd=odd), wall]),
    )


def official_airfoils(selection: Selection) -> Splits:
    """Return the official data: 1,000 airfoils for training and 200 for testing.

    Args:
        selection: The selection; the number of points determines the grid.

    Raises:
        ValueError: If no subgrid has this number of points.
    """
    stride = GridStride(_step(selection, 1))
    return load_official(
        lambda split: Airfoil(selection.root, split, transform=stride),
        selection,
        available=Airfoil.fields,
    )


def _step(selection: Selection, default: int) -> int:
    """Return the stride on the official grid."""
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
    recipes=RECIPES.of_problem("airfoil"),
    published=all_published("airfoil"),
    published_sizes=Airfoil.published_sizes,
    plot=partial(plot_comparison, window=((-0.5, 1.5), (-0.9, 0.9))),
    picture="mach_number",
    conditions=_CONDITIONED.conditions,
)
"""Mach number of transonic flow around an airfoil, on a C-grid of 221 × 51 or less."""
