"""Stress in a hyperelastic block with a hole: simulated or official data."""

from dataclasses import replace

from torch_geometric_flare.datasets import Elasticity
from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.experiments.loading import (
    load_official,
    load_simulated,
)
from torch_geometric_flare.experiments.published import all_published
from torch_geometric_flare.experiments.splits import Selection, Splits
from torch_geometric_flare.recipes import RECIPES
from torch_geometric_flare.simulation import Hyperelastic
from torch_geometric_flare.transforms import Normalizer


def simulated_blocks(selection: Selection) -> Splits:
    """Return simulated blocks: 1,000 for training and 50 for testing.

    Args:
        selection: The selection.
    """
    splits = load_simulated(Hyperelastic(), selection, num_train=1000, num_test=50)
    return replace(splits, coordinate_normalizer=_unit_square())


def official_blocks(selection: Selection) -> Splits:
    """Return the official data: 1,000 blocks for training and 200 for testing.

    Args:
        selection: The selection.
    """
    return load_official(
        lambda split: Elasticity(selection.root, split),
        selection,
        available=Elasticity.fields,
        coordinate_normalizer=_unit_square(),
    )


def _unit_square() -> Normalizer:
    # The identity, which records the extent of the block.
    return Normalizer.from_bounds([0.0, 0.0], [1.0, 1.0])


ELASTICITY = Benchmark(
    name="elasticity",
    sample="block",
    load_simulated=simulated_blocks,
    load_official=official_blocks,
    recipes=RECIPES.of_problem("elasticity"),
    published=all_published("elasticity"),
    published_sizes=Elasticity.published_sizes,
    fixed_points="a block has 972 points",
    picture="stress",
)
"""Von Mises stress at 972 points of a stretched block with a hole."""
