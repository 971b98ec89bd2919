"""Warping of printed parts: simulated or official data."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare import datasets
from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.experiments.loading import (
    load_official,
    load_simulated,
)
from torch_geometric_flare.experiments.published import all_published
from torch_geometric_flare.experiments.splits import Selection, Splits
from torch_geometric_flare.fields import Fields, num_channels
from torch_geometric_flare.metrics import legacy_lpbf_error
from torch_geometric_flare.recipes import RECIPES
from torch_geometric_flare.simulation import PrintedPart
from torch_geometric_flare.transforms import Normalizer, SurfaceDistance
from torch_geometric_flare.visualization import plot_deformed_comparison

_FIELDS = ("displacement_z",)


def simulated_parts(selection: Selection) -> Splits:
    """Return simulated parts: 600 for training and 50 for testing.

    A part fills only a small fraction of the bounding box that scales the coordinates,
    so the input coordinates are centered and in millimeters, the size of a voxel. The
    input includes `SurfaceDistance`, since warping depends on overhangs a millimeter
    wide.

    Args:
        selection: The selection; the default target is the displacement along z.
    """
    distance = SurfaceDistance()
    splits = load_simulated(
        PrintedPart(), selection, num_train=600, num_test=50, default_fields=_FIELDS
    ).transform(distance)
    features = distance.fields(dimension=3)
    return replace(
        splits,
        features=features,
        input_normalizer=_millimeters(splits.train, features),
    )


def _millimeters(train: Sequence[Data], features: Fields) -> Normalizer:
    """Return the normalizer from scaled coordinates to centered ones in millimeters.

    Features are unchanged.
    """
    center = Normalizer.gaussian(data.x[:, :3] for data in train).shift
    lower, upper = PrintedPart.coordinate_bounds
    coordinates = Normalizer(center, 1 / (torch.tensor(upper) - torch.tensor(lower)))
    rest = Normalizer.identity(num_channels(features))
    return Normalizer.cat([coordinates, rest])


def official_parts(selection: Selection) -> Splits:
    """Return the official data: 1,100 parts for training and 290 for testing.

    Args:
        selection: The selection; the default target is the displacement along z.
    """
    return load_official(
        lambda split: datasets.LPBF(
            selection.root, split, fields=selection.fields or _FIELDS
        ),
        selection,
        available=datasets.LPBF.available_fields,
        coordinate_normalizer=Normalizer.from_bounds(*datasets.LPBF.coordinate_bounds),
    )


def legacy_error(
    predicted: Mapping[str, Tensor], true: Mapping[str, Tensor]
) -> dict[str, float]:
    """Return the metric of the published results, `metrics.legacy_lpbf_error`.

    Args:
        predicted: Predicted fields of a part by name.
        true: True ones.

    Returns:
        The error as `legacy_error`; empty without `displacement_z`.
    """
    name = _FIELDS[0]
    if name not in true:
        return {}
    return {"legacy_error": legacy_lpbf_error(predicted[name], true[name]).item()}


LPBF = Benchmark(
    name="lpbf",
    sample="part",
    load_simulated=simulated_parts,
    load_official=official_parts,
    recipes=RECIPES.of_problem("lpbf"),
    errors=legacy_error,
    published=all_published("lpbf"),
    published_sizes=datasets.LPBF.published_sizes,
    fixed_points="a part has the points of its own mesh",
    plot=plot_deformed_comparison,
    picture="displacement",
)
"""Vertical displacement of parts made by laser powder bed fusion."""
