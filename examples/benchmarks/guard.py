"""How many cars of other kinds a guard detects, compared with simpler checks.

    python examples/drivaerml.py                                    # train it, minutes
    python examples/benchmarks/guard.py runs/drivaerml-.../last.ckpt

Simulated cars: 99 held-out ones give the thresholds at 5 % false alarms, 40 new ones of
the same kind show the false alarms, and 20 of each other kind the share detected.
Compares the guard of the surrogate with the box check of `predict_mesh` and with the
same distances of plain statistics: means and covariances of the points. Prints the
table, writes it as JSON, and plots the error of the pressure against the distance.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from guard_loop import compare, moments, outside_box, write
from torch_geometric.data import Data

from torch_geometric_flare.datasets import sample_rng
from torch_geometric_flare.experiments import DRIVAERML, Selection
from torch_geometric_flare.simulation import Notchback, NotchbackShape
from torch_geometric_flare.surrogates import load_surrogate
from torch_geometric_flare.training import add_threads_option, user_errors

CARS = Notchback(num_points=10_000)


def car(shape, rng):
    """Points and pressure of a body."""
    arrays = CARS.surface_points(CARS.solve(shape), rng)
    pos, y = (torch.from_numpy(arrays[k]).float() for k in ("pos", "pressure"))
    return Data(pos=pos, y=y)


def usual(rng):
    """A car as in the training."""
    return car(NotchbackShape.sample(rng), rng)


def altered(**factors):
    """Cars with some lengths and angles multiplied."""

    def make(rng):
        shape = NotchbackShape.sample(rng)
        scaled = {name: f * getattr(shape, name) for name, f in factors.items()}
        return car(replace(shape, **scaled), rng)

    return make


def moved(change):
    """Usual cars, without a truth, whose points are changed."""

    def make(rng):
        return Data(pos=change(usual(rng).pos))

    return make


def sphere(rng):
    """Points on a sphere where the cars are."""
    points = torch.from_numpy(rng.normal(size=(CARS.num_points, 3))).float()
    points = 0.65 * points / points.norm(dim=1, keepdim=True)
    return Data(pos=points + torch.tensor([2.3, 0.0, 0.72]))


def turned(pos):
    """Cars that stand at 10 degrees to the wind."""
    c, s = np.cos(np.radians(10)), np.sin(np.radians(10))
    rotation = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float32)
    middle = pos.mean(0)
    return (pos - middle) @ rotation.T + middle


KINDS = {
    "new cars of the same kind": usual,
    "length beyond the range, by 15 %": altered(length=1.15),
    "height beyond the range, by 12 %": altered(height=1.12),
    "fastbacks": altered(backlight_angle=0.5, decklid_length=0.3),
    "vans: steep rear, no boot": altered(backlight_angle=2.2, decklid_length=0.05),
    "nose and tail exchanged": moved(
        lambda pos: pos * pos.new_tensor([-1, 1, 1]) + pos.new_tensor([4.65, 0, 0])
    ),
    "at 10 degrees to the wind": moved(turned),
    "without a roof": moved(lambda pos: pos[pos[:, 2] < 1.1]),
    "the front half alone": moved(lambda pos: pos[pos[:, 0] < 2.3]),
    "a quarter smaller": moved(lambda pos: 0.75 * pos),
    "in millimeters": moved(lambda pos: 1000 * pos),
    "spheres": sphere,
}


def samples(kind, make, number):
    """Cars of a kind, one after the other."""
    return (make(sample_rng(2, kind, index)) for index in range(number))


@user_errors()
def main(argv=None):
    """Print a line for each kind."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("checkpoint", type=Path)
    add("--root", default="data", help="folder of the data sets")
    add("--num-train", type=int, help="cars that the checkpoint was trained on; all")
    add("--held-out", type=int, default=99)
    add("--cars", type=int, default=20, help="of each kind")
    add("--output", type=Path, default=Path("guard"), help="JSON and picture")
    add_threads_option(parser)
    args = parser.parse_args(argv)
    surrogate = load_surrogate(args.checkpoint)
    selection = Selection(root=args.root, num_train=args.num_train)
    train = [Data(pos=data.pos) for data in DRIVAERML.load(selection).train]
    held_out = [usual(sample_rng(1, "held out", i)) for i in range(args.held_out)]
    kinds = {
        kind: samples(kind, make, 2 * args.cars if make is usual else args.cars)
        for kind, make in KINDS.items()
    }
    lower = surrogate.coordinate_normalizer.shift
    upper = lower + surrogate.coordinate_normalizer.scale
    lines, points = compare(
        surrogate,
        train,
        held_out,
        kinds,
        lambda data: moments(data.pos),
        lambda data: outside_box(lower, upper, data.pos),
    )
    write(args.output, lines, points, field="pressure", title="simulated cars")


if __name__ == "__main__":
    main()
