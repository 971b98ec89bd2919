"""Transonic flow around airfoils: simulated, or the official set."""

from functools import partial

from torch_geometric_flare.datasets import Airfoil
from torch_geometric_flare.experiments.benchmark import Benchmark, Selection, Splits
from torch_geometric_flare.experiments.loading import (
    load_official,
    load_simulated,
    refuse_number_of_points,
)
from torch_geometric_flare.experiments.model_recipes import benchmark_recipes
from torch_geometric_flare.experiments.published import flare_paper
from torch_geometric_flare.simulation import AirfoilFlow
from torch_geometric_flare.visualization import plot_comparison

_FIXED = "the grid around an airfoil has 221 × 51 points"


def simulated_airfoils(selection: Selection) -> Splits:
    """Return simulated airfoils: 60 to train on, 10 to test on.

    Args:
        selection: Which of them.
    """
    refuse_number_of_points(selection, _FIXED)
    return load_simulated(AirfoilFlow(), selection, num_train=60, num_test=10)


def official_airfoils(selection: Selection) -> Splits:
    """Return the official set: 1,000 airfoils to train on, 200 to test on.

    Args:
        selection: Which of it.
    """
    refuse_number_of_points(selection, _FIXED)
    return load_official(
        lambda split: Airfoil(selection.root, split),
        selection,
        available=Airfoil.fields,
    )


AIRFOIL = Benchmark(
    name="airfoil",
    sample="airfoil",
    load_simulated=simulated_airfoils,
    load_official=official_airfoils,
    recipes=benchmark_recipes("airfoil"),
    published=flare_paper("airfoil"),
    published_sizes=Airfoil.published_sizes,
    plot=partial(plot_comparison, window=((-0.5, 1.5), (-0.9, 0.9))),
    picture="mach_number",
)
"""Mach number of transonic flow around an airfoil, on a C-grid of 221 × 51."""
