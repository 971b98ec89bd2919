"""Convergence of the output at fixed points as a graded mesh is refined.

    python examples/benchmarks/refinement.py

Points fill the unit square, four times denser at one corner than at the opposite one.
Networks with random parameters are evaluated at 100 fixed points, which have zero
weight. Prints, for meshes of 9 to 129 points per side, the largest difference from the
output on 513 points per side, relative to the spread of that output, with and without
weights, and the mean order of convergence in the spacing.
"""

import argparse
import math

import torch

from torch_geometric_flare import FLARE, FLAREPP, Transolver
from torch_geometric_flare.training import add_threads_option
from torch_geometric_flare.transforms import quadrature_weights

SIDES = (9, 17, 33, 65, 129)
FINEST = 513
SIZES = {"num_layers": 2, "heads": 4}
MODELS = {
    "FLARE": lambda: FLARE(2, 32, 1, num_latents=32, **SIZES),
    "FLAREPP": lambda: FLAREPP(2, 32, 1, num_latents=32, **SIZES),
    "Transolver": lambda: Transolver(2, 32, 1, num_slices=32, **SIZES),
}


def graded_mesh(side):
    """Points denser toward the origin, and what each stands for."""
    line = torch.linspace(0, 1, side, dtype=torch.float64)
    line = line * (1 + 3 * line) / 4
    pos = torch.cartesian_prod(line, line)
    # Transolver adds 1e-5 to sums of weights: of ones it is the smaller, the better.
    weight = quadrature_weights(pos, grid=(side, side))
    return pos, side**2 * weight


@torch.no_grad()
def at_fixed_points(model, side, weighted):
    """The output of the model at points that only ask."""
    asked = torch.rand(100, 2, generator=torch.Generator().manual_seed(1)).double()
    pos, weight = graded_mesh(side)
    if not weighted:
        weight = torch.ones_like(weight)
    x = 2 * torch.cat([pos, asked]) - 1
    weight = torch.cat([weight, torch.zeros(100, dtype=torch.float64)])
    return model(x, weight=weight)[-100:]


def main(argv=None):
    """Print a line for each model, with weights and without."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_threads_option(parser)
    parser.parse_args(argv)
    print("model, weights, " + ", ".join(map(str, SIDES)) + ", order")
    for name, build in MODELS.items():
        torch.manual_seed(0)
        model = build().double().eval()
        limit = at_fixed_points(model, FINEST, True)
        for weighted in (True, False):
            differences = [
                (at_fixed_points(model, side, weighted) - limit).abs().max()
                / limit.std()
                for side in SIDES
            ]
            order = math.log2(differences[0] / differences[-1]) / (len(SIDES) - 1)
            shown = ", ".join(f"{d:.1e}" for d in differences)
            print(f"{name}, {'areas' if weighted else 'none'}, {shown}, {order:.2f}")


if __name__ == "__main__":
    main()
