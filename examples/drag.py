"""Predict the drag coefficient of a car from its shape with a graph-level readout.

    python examples/drag.py                        # simulated notchbacks, a minute

A `LatentReadout` takes the centers and normals of a car's panels, never the pressure.
The true drag is the integral of the simulated pressure over all panels. Prints the
error on new cars, that of the mean drag of the training cars, R², and the rank
correlation, which shows whether the predictions order the cars correctly.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # waiting threads yield the CPU
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import torch
from matplotlib.figure import Figure
from torch.optim.lr_scheduler import OneCycleLR

from torch_geometric_flare.datasets import SimulatedDataset
from torch_geometric_flare.experiments import describe_errors, quantity_errors
from torch_geometric_flare.metrics import force_coefficients
from torch_geometric_flare.nn import LatentReadout
from torch_geometric_flare.simulation import Notchback, NotchbackShape
from torch_geometric_flare.training import add_threads_option, run_folder, user_errors

BATCH_SIZE = 16
LEARNING_RATE = 3e-3


@dataclass(frozen=True)
class Panels(Notchback):
    """A notchback as its panels: their integral is the drag, without random points."""

    panels_along: int = 32
    panels_around: int = 12
    name: ClassVar[str] = "simulated_notchback_panels"

    def sample(self, rng):
        """Return the panels of the half with positive y, which stand for both."""
        flow = self.solve(NotchbackShape.sample(rng))
        ends = flow.lattice[:-1] + flow.lattice[1:]
        return {
            "pos": (ends[:, :-1] + ends[:, 1:]).reshape(-1, 3) / 4,
            "normal": flow.normals.reshape(-1, 3),
            "area": 2 * flow.areas.reshape(-1),
            "pressure": 0.5 * self.speed**2 * flow.pressure_coefficient.reshape(-1, 1),
        }


def parse_args(argv=None):
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    defaults = {"num-train": 200, "num-test": 50, "epochs": 120, "seed": 0}
    for name, value in defaults.items():
        add(f"--{name}", type=int, default=value, help=f"default {value}")
    add_threads_option(parser)
    args = parser.parse_args(argv)
    if args.epochs < 1 or min(args.num_train, args.num_test) < 2:
        parser.error("--epochs must be at least 1, the numbers of cars at least 2")
    return args


def features(car):
    """What the network sees of each panel, [N, 30].

    Cars differ by centimeters; short waves along the axes make that a large difference.
    """
    waves = 2 * math.pi * 2.0 ** torch.arange(4)
    phases = (car.x.unsqueeze(-1) * waves).flatten(1)
    return torch.cat([car.x, phases.sin(), phases.cos(), car.normal], dim=1)


def load_cars(num_cars, split):
    """Features of all panels of each car [cars, N, 30], and drag [cars]."""
    cars = list(SimulatedDataset("data", Panels(), num_cars, split))
    flow = {"speed": Panels.speed, "reference_area": Panels.reference_area}
    parts = [force_coefficients(c.y, c.normal, c.area, **flow).drag for c in cars]
    return torch.stack([features(car) for car in cars]), torch.cat(parts).float()


def predict(model, x):
    """The normalized drag of some cars."""
    cars = torch.arange(len(x)).repeat_interleave(x.size(1))
    return model(x.flatten(0, 1), cars, len(x)).squeeze(1)


def train(model, x, target, epochs):
    """Minimize the squared error of the normalized drag."""
    steps = epochs * math.ceil(len(x) / BATCH_SIZE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for epoch in range(1, epochs + 1):
        losses = []
        for cars in torch.randperm(len(x)).split(BATCH_SIZE):
            loss = (predict(model, x[cars]) - target[cars]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        if epoch % max(1, epochs // 10) == 0:
            print(f"epoch {epoch}: loss {sum(losses) / len(losses):.4f}", flush=True)


def plot(true, predicted, errors, path):
    """Predicted against true drag, on equal axes."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    title = f"Drag of simulated notchbacks, R² {errors.r2:.2f}"
    axes = figure.add_subplot(title=title, aspect="equal")
    axes.set(xlabel="true drag coefficient", ylabel="predicted drag coefficient")
    both = torch.cat([true, predicted])
    margin = 0.05 * (both.max() - both.min()).item()
    limits = both.min().item() - margin, both.max().item() + margin
    axes.axline((limits[0], limits[0]), slope=1, color="grey", linewidth=1)
    axes.scatter(true, predicted, s=12)
    axes.set(xlim=limits, ylim=limits)
    figure.savefig(path, dpi=150)


@user_errors()
def main(argv=None):
    """Train, evaluate, plot."""
    args = parse_args(argv)
    torch.manual_seed(args.seed)
    x, drag = load_cars(args.num_train, "train")
    test_x, true = load_cars(args.num_test, "test")
    mean, deviation = drag.mean(), drag.std()
    model = LatentReadout(x.size(2), 32, 1, heads=4, kv_layers=1)
    train(model, x, (drag - mean) / deviation, args.epochs)
    with torch.no_grad():
        predicted = mean + deviation * predict(model, test_x)
    errors = quantity_errors(predicted, true, mean.item())
    results = {
        "data": "simulated",
        **vars(args),
        "training_mean": mean.item(),
        **asdict(errors),
    }
    folder = run_folder(Path("runs", "drag-simulated"))
    (folder / "metrics.json").write_text(json.dumps(results, indent=2))
    plot(true, predicted, errors, folder / "drag.png")
    print(describe_errors("drag coefficient", asdict(errors)))
    print(f"{folder}: drag.png, metrics.json")
    return results


if __name__ == "__main__":
    main()
