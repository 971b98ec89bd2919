"""Whether a guard detects airfoils at another Mach number, given as a condition.

    python examples/benchmarks/guard_airfoil.py          # simulates, trains, minutes

Simulated transonic airfoils; Mach number and incidence of the free stream are `u`. The
network is trained at Mach 0.6 to 0.74 and 2 degrees of incidence at most; held-out
airfoils of the same kind give the threshold at 5 % false alarms. Flows are computed on
every second node of the usual grid, which is accurate enough for a comparison, not for
drag. Plain statistics are the means and covariances of the points of the wall, and `u`.
The box is that of the coordinates, as `predict_mesh` checks it; its range of conditions
alone detects another Mach number. Prints the table, and plots the error of the Mach
number against the distance.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from guard_loop import compare, moments, outside_box, write

from torch_geometric_flare.datasets import SimulatedDataset
from torch_geometric_flare.experiments import Selection, load_simulated
from torch_geometric_flare.experiments.build import make_module
from torch_geometric_flare.experiments.loading import coordinate_statistics
from torch_geometric_flare.recipes import RECIPES
from torch_geometric_flare.simulation import AirfoilFlow
from torch_geometric_flare.simulation.airfoil import AirfoilSolution
from torch_geometric_flare.simulation.airfoil_grid import WAKE_CELLS
from torch_geometric_flare.simulation.euler import GAMMA, CGridEuler
from torch_geometric_flare.training import (
    SurrogateDataModule,
    add_threads_option,
    fit,
    run_folder,
    user_errors,
)
from torch_geometric_flare.transforms import WallFeatures

TRAINED, INCIDENCE = (0.6, 0.74), (-2.0, 2.0)
WALL = WallFeatures(1 / 15, reach=2.0)
KINDS = {
    "new airfoils of the same kind": TRAINED,
    "Mach 0.75 to 0.77": (0.75, 0.77),
    "Mach 0.78 to 0.80": (0.78, 0.80),
    "Mach 0.80 to 0.82": (0.80, 0.82),
}


@dataclass(frozen=True)
class CoarseAirfoils(AirfoilFlow):
    """Airfoils on every second node of the grid, whose flow is computed there too."""

    name = "coarse_airfoil"

    def solve(self, shape, refinement=1, *, mach=None, incidence=None):
        """Compute the flow around an airfoil."""
        nodes = shape.c_grid(refinement)[::2, ::2]
        flow = CGridEuler(nodes, WAKE_CELLS // 2, mach, incidence=incidence)
        change = flow.iterate(self.coarse_iterations, 6.0)
        density, velocity, pressure = flow.at_nodes()
        sound = np.sqrt(GAMMA * pressure / density)
        mach_number = np.linalg.norm(velocity, axis=2) / sound
        return AirfoilSolution(nodes, density, velocity, pressure, mach_number, change)


def simulate(args, mach, split, number):
    """Airfoils of a range of Mach numbers, with what they tell each point."""
    flow = CoarseAirfoils(mach=mach, incidence=INCIDENCE)
    return [*map(WALL, SimulatedDataset(args.root, flow, number, split))]


def wall(data):
    """Points of the airfoil itself: the first column of the grid, without the wake."""
    points = data.pos.view(*data.grid, 2)[:, 0]
    return points[WAKE_CELLS // 2 : -(WAKE_CELLS // 2)]


def statistics(data):
    """Means and covariances of the points of the airfoil, and the conditions."""
    return torch.cat([moments(wall(data)), data.u.double()], dim=1)


def train(args):
    """A surrogate of airfoils, with its training samples."""
    flow = CoarseAirfoils(mach=TRAINED, incidence=INCIDENCE)
    selection = Selection(root=args.root, num_train=args.num_train, num_test=1)
    splits = load_simulated(flow, selection, num_train=48, num_test=1).transform(WALL)
    features = WALL.fields(dimension=2)
    splits = replace(
        splits,
        features=features,
        input_normalizer=coordinate_statistics(splits.train, features),
    )
    recipe = replace(RECIPES["FLARE", "airfoil", "quick"], epochs=args.epochs)
    module = make_module(splits, recipe, "simulated airfoils")
    data = SurrogateDataModule(splits.train, batch_size=recipe.batch_size)
    folder = run_folder(Path("runs", "guard_airfoil"))
    return fit(module, data, folder, progress=False), splits.train


@user_errors()
def main(argv=None):
    """Print a line for each kind."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--root", default="data", help="folder of the data sets")
    add("--num-train", type=int, default=48)
    add("--epochs", type=int, default=20)
    add("--held-out", type=int, default=19)
    add("--airfoils", type=int, default=8, help="of each kind")
    add("--output", type=Path, default=Path("guard_airfoil"), help="JSON and picture")
    add_threads_option(parser)
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    surrogate, airfoils = train(args)
    held_out = simulate(args, TRAINED, "held_out", args.held_out)
    kinds = {
        kind: simulate(args, mach, "new", args.airfoils) for kind, mach in KINDS.items()
    }
    places = torch.stack([data.pos for data in airfoils])
    lower, upper = places.amin((0, 1)), places.amax((0, 1))
    lines, points = compare(
        surrogate,
        airfoils,
        held_out,
        kinds,
        statistics,
        lambda data: outside_box(lower, upper, data.pos),
    )
    title = "simulated airfoils at other Mach numbers"
    write(args.output, lines, points, field="Mach number", title=title)


if __name__ == "__main__":
    main()
