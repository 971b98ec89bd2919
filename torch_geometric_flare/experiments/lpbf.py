"""Warping of printed parts: simulated, or the official set."""

from torch_geometric_flare import datasets
from torch_geometric_flare.experiments.benchmark import Benchmark, Selection, Splits
from torch_geometric_flare.experiments.loading import (
    load_official,
    load_simulated,
    refuse_number_of_points,
)
from torch_geometric_flare.experiments.model_recipes import benchmark_recipes
from torch_geometric_flare.experiments.published import flare_paper
from torch_geometric_flare.simulation import PrintedPart
from torch_geometric_flare.transforms import Normalizer
from torch_geometric_flare.visualization import plot_deformed_comparison

_FIXED = "a part has the points of its own mesh"
_FIELDS = ("displacement_z",)


def simulated_parts(selection: Selection) -> Splits:
    """Return simulated parts: 300 to train on, 50 to test on.

    Args:
        selection: Which of them; the target is the displacement along z by default.
    """
    refuse_number_of_points(selection, _FIXED)
    return load_simulated(
        PrintedPart(), selection, num_train=300, num_test=50, default_fields=_FIELDS
    )


def official_parts(selection: Selection) -> Splits:
    """Return the official set: 1,100 parts to train on, 290 to test on.

    Args:
        selection: Which of it; the target is the displacement along z by default.
    """
    refuse_number_of_points(selection, _FIXED)
    return load_official(
        lambda split: datasets.LPBF(
            selection.root, split, fields=selection.fields or _FIELDS
        ),
        selection,
        available=datasets.LPBF.available_fields,
        coordinate_normalizer=Normalizer.from_bounds(*datasets.LPBF.coordinate_bounds),
    )


LPBF = Benchmark(
    name="lpbf",
    sample="part",
    load_simulated=simulated_parts,
    load_official=official_parts,
    recipes=benchmark_recipes("lpbf"),
    published=flare_paper("lpbf"),
    published_sizes=datasets.LPBF.published_sizes,
    plot=plot_deformed_comparison,
    picture="displacement",
)
"""Vertical displacement of parts made by laser powder bed fusion."""
