"""Surface fields of cars: simulated notchbacks or DrivAerML."""

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyvista as pv
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare.datasets import DrivAerML, sample_rng
from torch_geometric_flare.experiments.benchmark import Benchmark
from torch_geometric_flare.experiments.loading import (
    first_samples,
    load_simulated,
    number_of_points,
    train_and_val,
)
from torch_geometric_flare.experiments.published import all_published
from torch_geometric_flare.experiments.splits import Selection, Splits
from torch_geometric_flare.fields import channel_slices
from torch_geometric_flare.metrics import force_coefficients
from torch_geometric_flare.recipes import RECIPES
from torch_geometric_flare.simulation import Notchback
from torch_geometric_flare.transforms import Normalizer
from torch_geometric_flare.visualization import plot_comparison, plot_mesh

_FLOW = (1.0, 0.0, 0.0)


def simulated_cars(selection: Selection) -> Splits:
    """Return simulated notchbacks: 100 for training and 20 for testing.

    Each has 10,000 points by default.

    Args:
        selection: The selection.
    """
    cars = Notchback(num_points=number_of_points(selection.num_points, 10_000))
    splits = load_simulated(cars, selection, num_train=100, num_test=20)
    # The points are uniform over the area, so cells of a mesh are weighted by area.
    return replace(splits, location="cell", weighted=True)


def official_cars(selection: Selection) -> Splits:
    """Return DrivAerML data, by default the pressure at 40,000 points.

    The pressure is normalized with the statistics of the papers, the wall shear stress
    with those of the training split.

    Args:
        selection: The selection.
    """
    cars, test_cars = (
        DrivAerML(
            selection.root,
            split,
            selection.num_points or "40k",
            fields=selection.fields or ("pressure",),
        )
        for split in ("train", "test")
    )
    train, val = train_and_val(cars, selection)
    test = first_samples(test_cars, selection.num_test, "num_test")
    parts = []
    for name, columns in channel_slices(train.fields).items():
        if name == "pressure":
            statistics = [DrivAerML.pressure_mean], [DrivAerML.pressure_std]
            parts.append(Normalizer(*statistics))
        else:
            parts.append(Normalizer.gaussian(car.y[:, columns] for car in train))
    return Splits(
        train=train,
        val=val,
        test=test,
        fields=train.fields,
        target_normalizer=Normalizer.cat(parts),
        coordinate_normalizer=Normalizer.from_bounds(*DrivAerML.coordinate_bounds),
        location="cell",
    )


def forces(car: Data, fields: Mapping[str, Tensor]) -> dict[str, float | None]:
    """Return the drag and lift coefficients due to the pressure on a car.

    Args:
        car: The sample.
        fields: Its fields by name.

    Returns:
        Both coefficients; `None` without pressure, normals or areas.
    """
    names = ("drag_coefficient", "lift_coefficient")
    pressure, normal, area = fields.get("pressure"), car.get("normal"), car.get("area")
    if pressure is None or normal is None or area is None:
        return dict.fromkeys(names)
    coefficients = force_coefficients(
        pressure,
        normal,
        area,
        speed=DrivAerML.speed,
        reference_area=DrivAerML.reference_area,
    )
    return dict(zip(names, map(float, coefficients), strict=True))


def car_surface(selection: Selection, index: int) -> Any:
    """Return the surface of a simulated test car with its true pressure.

    Args:
        selection: The selection.
        index: Index of the car in the test split.

    Returns:
        A `pyvista.PolyData`; `None` for official cars, which have only points.
    """
    if selection.data != "simulated":
        return None
    arrays = Notchback().surface(sample_rng(0, "test", index))
    faces = []
    for cell in arrays["cells"]:
        corners = dict.fromkeys(cell.tolist())
        faces += [len(corners), *corners]
    surface = pv.PolyData(arrays["points"], faces=faces)
    surface.cell_data["pressure"] = arrays["pressure"][:, 0]
    surface.cell_data["normal"] = arrays["normal"]
    surface.cell_data["area"] = arrays["area"]
    return surface


DRIVAERML = Benchmark(
    name="drivaerml",
    sample="car",
    load_simulated=simulated_cars,
    load_official=official_cars,
    recipes=RECIPES.of_problem("drivaerml"),
    quantities_of_interest=forces,
    published=all_published("drivaerml"),
    published_sizes=DrivAerML.published_sizes,
    plot=functools.partial(plot_comparison, flow=_FLOW),
    picture="surface",
    surface=car_surface,
    plot_surface=functools.partial(plot_mesh, location="cell", flow=_FLOW),
)
"""Kinematic pressure on cars, for official data also the wall shear stress."""
