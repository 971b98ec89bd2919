"""Transonic flow around airfoils: simulated, or the official set."""

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
# These keep both ends of the two axes.
_STEPS = {-(-_GRID[0] // step) * -(-_GRID[1] // step): step for step in (1, 2, 5, 10)}
_CONDITIONED = AirfoilFlow(mach=(0.6, 0.82), incidence=(-2.0, 2.0))
# In chords: offsets from the wall count linearly within it, by their logarithm beyond.
_UNIT = 1 / 15


def simulated_airfoils(selection: Selection) -> Splits:
    """Return simulated airfoils at every second point: 60 to train, 10 to test on.

    The network sees `WallFeatures` beside the coordinates, since these reach 40 chords
    from an airfoil whose surface moves by hundredths of one. In training, samples are
    mirrored at the chord at random. With conditions, the Mach number of the free stream
    is drawn evenly from [0.6, 0.82], and its incidence from ±2°.

    Args:
        selection: Which of them; a number of points gives the grid.

    Raises:
        ValueError: If the grid has no such number of points.
    """
    stride = GridStride(_step(selection, 2))  # refuses before anything is simulated
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
        # The flow around the mirror image of an airfoil, at the opposite incidence, is
        # the mirror image of the flow.
        train_transform=Compose([RandomMirror(axis=1, odd=odd), wall]),
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
    recipes=RECIPES.of_problem("airfoil"),
    published=all_published("airfoil"),
    published_sizes=Airfoil.published_sizes,
    plot=partial(plot_comparison, window=((-0.5, 1.5), (-0.9, 0.9))),
    picture="mach_number",
    conditions=_CONDITIONED.conditions,
)
"""Mach number of transonic flow around an airfoil, on a C-grid of 221 × 51 or less."""
