"""Predict the flow around a car: surface pressure, and velocity and pressure anywhere.

    python examples/wake.py                        # simulated notchbacks, ten minutes

A `FLAREQuery` encodes the surface of a car and predicts the fields there and at any
points in the air from this state. Prints the errors on new cars, those of the training
mean and of the most similar training car, whose flow is simulated at the same points,
and plots the surface and the plane of symmetry. The air is potential flow with a model
of the wake, see `simulation.NotchbackVolume`. Measured on simulated cars with
seed 0: 0.021 on the surface (nearest car 0.200), velocity 0.020 (0.039), pressure in
the air 0.060 (0.227).
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # waiting threads yield the CPU
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch_geometric.data import Data
from torch_geometric.transforms import Compose, FixedPoints

from torch_geometric_flare.datasets import NearestSample, sample_rng
from torch_geometric_flare.experiments import Selection, load_simulated
from torch_geometric_flare.experiments.build import make_module
from torch_geometric_flare.metrics import relative_l2
from torch_geometric_flare.nn import FLAREQuery
from torch_geometric_flare.recipes import FLARE_DRIVAERML_QUICK
from torch_geometric_flare.simulation import NotchbackShape, NotchbackVolume
from torch_geometric_flare.training import (
    SurrogateDataModule,
    add_threads_option,
    compare_with_baselines,
    fit,
    run_folder,
    user_errors,
)
from torch_geometric_flare.transforms import FixedQueryPoints
from torch_geometric_flare.visualization import plot_comparison, plot_plane_comparison

WINDOW = (-1.5, 8.0), (0.0, 2.5)  # of the plane of symmetry, in meters
KINDS = ("surrogate", "training mean", "nearest training car")
SPACING = 0.04  # of the points of its picture


def parse_args(argv=None):
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    numbers = {"num-train": 100, "num-test": 20, "epochs": 30, "seed": 0}
    # On the surface of a car, in the air, and random ones of both in a step.
    numbers |= {"num-points": 10_000, "volume-points": 4096, "step-points": 1000}
    for name, value in numbers.items():
        add(f"--{name}", type=int, default=value, help=f"default {value}")
    add_threads_option(parser)
    return parser.parse_args(argv)


def make_recipe(epochs):
    """The quick recipe of cars for query points, trained on one car a step."""
    changes = {"epochs": epochs, "num_points": None, "weight_decay": 1e-5}
    return replace(FLARE_DRIVAERML_QUICK, model_class=FLAREQuery, **changes)


def flow_of(simulator, split, index):
    """The flow over a car, to be asked at any point."""
    return simulator.solve(NotchbackShape.sample(sample_rng(0, split, index)))


def tensors(fields):
    """Fields of the simulator in single precision."""
    return {name: torch.from_numpy(fields[name]).float() for name in fields}


def nearest_flow(simulator, splits):
    """Errors in the air of the flow over the most similar training car, by field."""
    nearest, errors = NearestSample(splits.train), {}
    for car in splits.test:
        flow = flow_of(simulator, "train", nearest.nearest(car))
        fields = tensors(simulator.fields_at(flow, car.query_pos.numpy()))
        for name, true in splits.query.split(car.query_y).items():
            errors.setdefault(f"query_{name}", []).append(
                relative_l2(fields[name], true)
            )
    return {name: torch.cat(parts) for name, parts in errors.items()}


def draw(surrogate, simulator, car, index, folder):
    """A car's surface and its plane of symmetry: truth, prediction and error."""
    title, ahead = "Simulated notchback, {}", (1.0, 0.0, 0.0)
    y, _ = surrogate.predict(car)
    (field,), flow = surrogate.fields, flow_of(simulator, "test", index)
    figure = plot_comparison(car, y, field, title=title.format("surface"), flow=ahead)
    figure.savefig(folder / "surface.png", dpi=120)
    axes = [np.arange(start, end, SPACING) for start, end in WINDOW]
    x, z = np.meshgrid(*axes, indexing="ij")
    points = np.stack([x, 0 * x, z], axis=-1).reshape(-1, 3)
    known = tensors(simulator.fields_at(flow, points))
    plane = Data(query_pos=torch.from_numpy(points).float())
    for feature in surrogate.query.features:
        plane[f"query_{feature.name}"] = known[feature.name]
    f = surrogate.query.split(surrogate.predict_at(surrogate.encode(car), plane))
    inside = known["signed_distance"] < -2 * SPACING
    for field in surrogate.query.fields:
        plot_plane_comparison(
            plane.query_pos[:, [0, 2]],
            known[field.name].masked_fill(inside, torch.nan),
            f[field.name],
            field,
            title=title.format("plane of symmetry"),
            grid=x.shape,
            body=torch.from_numpy(flow.outline()),
            axes_names=("x", "z"),
        ).savefig(folder / f"plane_{field.name}.png", dpi=120)


@user_errors()
def main(argv=None):
    """Simulate, train, measure, draw."""
    args = parse_args(argv)
    torch.manual_seed(args.seed)
    simulator = NotchbackVolume(args.num_points, volume_points=args.volume_points)
    selection = Selection(num_train=args.num_train, num_test=args.num_test)
    splits = load_simulated(simulator, selection, num_train=100, num_test=20)
    splits = replace(splits, location="cell", weighted=True)  # even over the area
    module = make_module(splits, make_recipe(args.epochs), "simulated cars")
    points = FixedPoints(args.step_points, replace=False)
    subset = Compose([points, FixedQueryPoints(args.step_points)])
    data = SurrogateDataModule(splits.train, train_transform=subset, seed=args.seed)
    folder = run_folder(Path("runs", "wake-simulated"))
    start = time.perf_counter()
    surrogate = fit(module, data, folder, progress=False)
    seconds = time.perf_counter() - start
    results = {"data": "simulated", **vars(args), "training_seconds": seconds}
    compared = compare_with_baselines(surrogate, splits.train, splits.test)
    in_the_air = nearest_flow(simulator, splits)
    for name, kinds in compared.per_field.items():
        errors = dict(zip(KINDS, kinds.values(), strict=True))
        errors["nearest training car"] = in_the_air.get(name, errors[KINDS[-1]])
        results[name] = {kind: error.mean().item() for kind, error in errors.items()}
        row = ", ".join(f"{kind} {error:.3f}" for kind, error in results[name].items())
        print(f"relative L2 error of {name}: {row}")
    middle = int(compared.relative_l2.argsort()[len(splits.test) // 2])
    draw(surrogate, simulator, splits.test[middle], middle, folder)
    (folder / "metrics.json").write_text(json.dumps(results, indent=2))
    print(f"{folder}: last.ckpt, metrics.json and pictures")
    return results


if __name__ == "__main__":
    main()
