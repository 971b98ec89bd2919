"""Predict the flow around an airfoil from its surface only, on official AirfRANS.

    python examples/airfrans.py --task scarce       # fetched by PyTorch Geometric

A `FLAREQuery` encodes the points on the airfoil with their normals, and predicts
velocity, pressure and turbulent viscosity at all points of the plane from this state.
The inputs of these points are the coordinates and the distance to the airfoil from the
files; the inlet velocity is `u`. Prints the error of each field on the test split,
those of the training mean and of the most similar training airfoil, and plots the
pressure.

The errors on the official files are unknown: this has run only on files of the same
format. The default training takes hours on a CPU.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # waiting threads yield the CPU
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch_geometric.transforms import Compose, FixedPoints

from torch_geometric_flare.datasets import AirfRANS
from torch_geometric_flare.experiments import Splits
from torch_geometric_flare.experiments.build import make_module
from torch_geometric_flare.experiments.loading import feature_statistics, first_samples
from torch_geometric_flare.nn import FLAREQuery
from torch_geometric_flare.recipes import FLARE_DRIVAERML_QUICK
from torch_geometric_flare.surrogates import QueryPoints
from torch_geometric_flare.training import (
    SurrogateDataModule,
    add_threads_option,
    compare_with_baselines,
    fit,
    run_folder,
    user_errors,
)
from torch_geometric_flare.transforms import FixedQueryPoints, Normalizer
from torch_geometric_flare.visualization import plot_plane_comparison

KINDS = ("surrogate", "training mean", "nearest training airfoil")
WINDOW = (-0.5, 1.5), (-0.6, 0.6)  # of the plot, in meters


def parse_args(argv=None):
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--data", choices=["official"], default="official", help="official data only")
    add("--root", default="data/airfrans", help="data folder")
    add("--task", default="full", help="full, scarce, reynolds or aoa")
    add("--num-train", type=int, help="number of training airfoils; default all")
    add("--num-test", type=int, help="number of test airfoils; default all")
    # Random points on the airfoil and in the plane per step.
    numbers = {"epochs": 100, "seed": 0, "step-points": 1000, "step-queries": 8000}
    for name, value in numbers.items():
        add(f"--{name}", type=int, default=value, help=f"default {value}")
    add_threads_option(parser)
    return parser.parse_args(argv)


def load(args):
    """The airfoils and the normalizers of both streams."""
    train, test = (
        AirfRANS(args.root, args.task, split, inlet="condition", source="surface")
        for split in ("train", "test")
    )
    train = first_samples(train, args.num_train, "num_train")
    test = first_samples(test, args.num_test, "num_test")
    ends = [(data.query_pos.amin(0), data.query_pos.amax(0)) for data in train]
    lower = torch.stack([low for low, _ in ends]).amin(0)
    upper = torch.stack([high for _, high in ends]).amax(0)
    distance = Normalizer.gaussian(data.query_wall_distance for data in train)
    query = QueryPoints(
        Normalizer.gaussian(data.query_y for data in train),
        Normalizer.from_bounds(lower, upper),
        fields=train.query_fields,
        features=train.query_features,
        # Scales coordinates from [0, 1] to [-1, 1].
        input_normalizer=Normalizer.cat([Normalizer([0.5] * 2, [0.5] * 2), distance]),
    )
    return Splits(
        train=train,
        test=test,
        fields=train.fields,
        features=train.features,
        target_normalizer=Normalizer.gaussian(data.y for data in train),
        input_normalizer=feature_statistics(train, train.features),
        location="point",
        conditions=train.conditions,
        condition_normalizer=Normalizer.gaussian(data.u for data in train),
        query=query,
    )


def make_recipe(epochs):
    """The quick recipe of cars for query points, trained on one airfoil a step."""
    changes = {"epochs": epochs, "num_points": None, "weight_decay": 1e-5}
    return replace(FLARE_DRIVAERML_QUICK, model_class=FLAREQuery, **changes)


def draw(surrogate, airfoil, path):
    """The pressure around an airfoil: truth, prediction and error."""
    _, fields = surrogate.predict(airfoil)
    (pressure,) = (f for f in surrogate.query.fields if f.name == "pressure")
    truth, predicted = (
        surrogate.query.split(values)[pressure.name]
        for values in (airfoil.query_y, fields)
    )
    plot_plane_comparison(
        airfoil.query_pos,
        truth,
        predicted,
        pressure,
        title="AirfRANS, test split",
        window=WINDOW,
    ).savefig(path, dpi=120)


@user_errors()
def main(argv=None):
    """Read, train, evaluate, plot."""
    args = parse_args(argv)
    torch.manual_seed(args.seed)
    splits = load(args)
    module = make_module(splits, make_recipe(args.epochs), f"AirfRANS, {args.task}")
    points = FixedPoints(args.step_points, replace=False)
    subset = Compose([points, FixedQueryPoints(args.step_queries)])
    data = SurrogateDataModule(splits.train, train_transform=subset, seed=args.seed)
    folder = run_folder(Path("runs", "airfrans"))
    surrogate = fit(module, data, folder, progress=False)
    compared = compare_with_baselines(surrogate, splits.train, splits.test)
    results = vars(args)
    for name, kinds in compared.per_field.items():
        errors = (error.mean().item() for error in kinds.values())
        results[name] = dict(zip(KINDS, errors, strict=True))
        row = ", ".join(f"{kind} {error:.3f}" for kind, error in results[name].items())
        print(f"relative L2 error of {name}: {row}")
    middle = int(compared.relative_l2.argsort()[len(splits.test) // 2])
    draw(surrogate, splits.test[middle], folder / "pressure.png")
    (folder / "metrics.json").write_text(json.dumps(results, indent=2))
    print(f"{folder}: last.ckpt, metrics.json and pressure.png")
    return results


if __name__ == "__main__":
    main()
