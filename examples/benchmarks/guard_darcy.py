"""How many media of another roughness or contrast a guard detects, on Darcy flow.

    python examples/darcy.py                                        # train it, minutes
    python examples/benchmarks/guard_darcy.py runs/darcy-.../last.ckpt

Like `guard.py`, on simulated flows: 99 held-out media give the threshold at 5 % false
alarms. Plain statistics are the means and covariances of coordinates and permeability.
Prints the table as JSON lines.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from guard_loop import compare, moments
from torch_geometric.data import Data

from torch_geometric_flare.datasets import sample_rng
from torch_geometric_flare.experiments import DARCY, Selection
from torch_geometric_flare.simulation import DarcyFlow
from torch_geometric_flare.surrogates import load_surrogate
from torch_geometric_flare.training import add_threads_option, user_errors


@dataclass(frozen=True)
class Medium(DarcyFlow):
    """Media whose Gaussian field has another spectrum, or whose values differ.

    Args:
        power: Of the amplitudes of the cosines; 1 as in the training.
        high: The larger permeability; 12 as in the training.
    """

    power: float = 1.0
    high: float = 12.0

    def permeability(self, rng):
        """Draw a medium."""
        field = self.gaussian_field(rng, self.power)
        return np.where(field >= 0.0, self.high, 3.0)


KINDS = {
    "new media of the same kind": {},
    "rougher: amplitudes to the power 0.8": {"power": 0.8},
    "smoother: to the power 1.3": {"power": 1.3},
    "smoother: four cosines along each axis": {"modes": 4},
    "permeability 3 and 15 in place of 3 and 12": {"high": 15.0},
    "permeability 3 and 24": {"high": 24.0},
}


def draw(changes, side, split, index):
    """A simulated flow as a sample."""
    medium = Medium(resolution=side, solve_resolution=2 * side - 1, **changes)
    arrays = medium.sample(sample_rng(4, split, index))
    pos, permeability, pressure = (
        torch.from_numpy(arrays[name]).float()
        for name in ("pos", "permeability", "pressure")
    )
    return Data(x=torch.cat([pos, permeability], dim=1), pos=pos, y=pressure)


@user_errors()
def main(argv=None):
    """Print a line for each kind."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("checkpoint", type=Path)
    add("--root", default="data", help="folder of the data sets")
    add("--num-train", type=int, help="flows that the checkpoint was trained on; all")
    add("--num-points", help="points of these flows")
    add("--held-out", type=int, default=99)
    add("--media", type=int, default=20, help="of each kind")
    add_threads_option(parser)
    args = parser.parse_args(argv)
    surrogate = load_surrogate(args.checkpoint)
    selection = Selection(
        root=args.root, num_train=args.num_train, num_points=args.num_points
    )
    train = DARCY.load(selection).train
    side = train[0].grid[0]
    held_out = [draw({}, side, "held out", i) for i in range(args.held_out)]
    kinds = {
        kind: [
            draw(changes, side, kind, index)
            for index in range(args.media if changes else 2 * args.media)
        ]
        for kind, changes in KINDS.items()
    }
    compare(surrogate, train, held_out, kinds, lambda data: moments(data.x))


if __name__ == "__main__":
    main()
