"""Width and coverage of calibrated bands, with and without members.

    python examples/drivaerml.py --seed 0 --folder runs/0    # and seeds 1 and 2
    python examples/benchmarks/bands.py runs/{0,1,2}/last.ckpt

Uses 39 simulated cars to calibrate and 60 new ones to test. The first checkpoint
predicts; with the others as members, its bands are wide where the networks disagree.
Prints for both cases the share of points in the marginal band, of cars in the
simultaneous band and of drags in their interval, and the mean half widths.
"""

import argparse
import json
from pathlib import Path

import torch
from torch_geometric.data import Data

from torch_geometric_flare.datasets import sample_rng
from torch_geometric_flare.experiments import DRIVAERML
from torch_geometric_flare.simulation import Notchback
from torch_geometric_flare.surrogates import load_surrogate
from torch_geometric_flare.training import add_threads_option, user_errors

CARS = Notchback(num_points=10_000)


def cars(split, number):
    """Simulated cars that no training has seen."""
    made = []
    for index in range(number):
        arrays = CARS.sample(sample_rng(3, split, index))
        tensors = {k: torch.from_numpy(v).float() for k, v in arrays.items()}
        made.append(Data(y=tensors.pop("pressure"), **tensors))
    return made


def test_bands(surrogate, new):
    """What the calibrated bands of a surrogate hold of new cars."""
    quantities = DRIVAERML.quantities_of_interest
    calibration = surrogate.calibration
    rows = []
    for car in new:
        predicted = surrogate.predict(car)
        error = (predicted - car.y).abs()
        marginal, everywhere = (
            surrogate.band(car, kind) for kind in ("marginal", "simultaneous")
        )
        told, true = (
            quantities(car, surrogate.split(y))["drag_coefficient"]
            for y in (predicted, car.y)
        )
        drag = calibration.quantities["drag_coefficient"]
        held = [(error <= marginal).float().mean(), (error <= everywhere).all()]
        held += [abs(told - true) <= drag, marginal.mean(), everywhere.mean()]
        rows.append([float(value) for value in held])
    names = ("points held", "cars held", "drags held", "half width", "everywhere")
    means = torch.tensor(rows).mean(0).tolist()
    return dict(zip(names, means, strict=True), drag=drag)


@user_errors()
def main(argv=None):
    """Print a line without members, and one with them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("checkpoint", type=Path)
    add("members", type=Path, nargs="*")
    add("--level", type=float, default=0.9)
    add("--calibration", type=int, default=39, help="cars to calibrate with")
    add("--new", type=int, default=60, help="cars to test on")
    add_threads_option(parser)
    args = parser.parse_args(argv)
    surrogate = load_surrogate(args.checkpoint)
    others = [load_surrogate(path) for path in args.members]
    known, new = cars("calibration", args.calibration), cars("new", args.new)
    for members in ([], others) if others else ([],):
        surrogate.calibrate(
            known,
            args.level,
            quantities=DRIVAERML.quantities_of_interest,
            members=members,
        )
        row = {"members": len(members), **test_bands(surrogate, new)}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
