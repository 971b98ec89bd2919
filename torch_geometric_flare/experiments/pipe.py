"""Flow through curved pipes: simulated or official data."""

from torch_geometric_flare.datasets import Pipe
from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.experiments.loading import (
    coordinate_statistics,
    load_official,
    load_simulated,
)
from torch_geometric_flare.experiments.published import all_published
from torch_geometric_flare.experiments.splits import Selection, Splits
from torch_geometric_flare.recipes import RECIPES
from torch_geometric_flare.simulation import PipeFlow

_CONDITIONED = PipeFlow(viscosity=(0.002, 0.01))


def simulated_pipes(selection: Selection) -> Splits:
    """Return simulated pipes: 400 for training and 50 for testing.

    Coordinates are normalized with the statistics of the training split. With
    conditions, the viscosity is log-uniform in [0.002, 0.01].

    Args:
        selection: The selection.
    """
    return load_simulated(
        _CONDITIONED if selection.conditions else PipeFlow(),
        selection,
        num_train=400,
        num_test=50,
        input_statistics=coordinate_statistics,
    )


def official_pipes(selection: Selection) -> Splits:
    """Return the official data: 1,000 pipes for training and 200 for testing.

    Coordinates are normalized with the statistics of the training split.

    Args:
        selection: The selection.
    """
    return load_official(
        lambda split: Pipe(selection.root, split),
        selection,
        available=Pipe.fields,
        input_statistics=coordinate_statistics,
    )


PIPE = Benchmark(
    name="pipe",
    sample="pipe",
    load_simulated=simulated_pipes,
    load_official=official_pipes,
    recipes=RECIPES.of_problem("pipe"),
    published=all_published("pipe"),
    published_sizes=Pipe.published_sizes,
    fixed_points="the grid in a pipe has 129 × 129 points",
    picture="velocity",
    conditions=_CONDITIONED.conditions,
)
"""Velocity along x of viscous flow through a curved pipe, on a 129 × 129 grid."""
