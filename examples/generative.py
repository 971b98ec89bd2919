"""Sample pressures in a porous medium that is known at a tenth of its points.

    python examples/generative.py                    # simulated, minutes

A `GenerativeSurrogate` samples from the possible solutions; a regression with the same
network and budget gives one prediction, with a band calibrated on further flows. Prints
the errors of both on new simulated flows, the correlation of the spread of the draws
with the error, and the coverage of the bands. Plots the flow of median error.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # waiting threads yield the CPU
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import argparse
import json

import torch
from matplotlib.figure import Figure
from torch_geometric.data import Batch, Data
from torch_geometric.utils import scatter

from torch_geometric_flare.datasets import SimulatedDataset
from torch_geometric_flare.fields import Field
from torch_geometric_flare.metrics import relative_l2
from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.simulation import DarcyFlow
from torch_geometric_flare.training import (
    GenerativeModule,
    SurrogateDataModule,
    SurrogateModule,
    add_threads_option,
    fit,
    run_folder,
    user_errors,
)
from torch_geometric_flare.transforms import HideFeature, Normalizer


def parse_args(argv=None):
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    numbers = {"side": 21, "num-train": 1000, "num-test": 25, "epochs": 5, "seed": 0}
    numbers |= {"num-draws": 32, "num-steps": 4}
    for name, value in numbers.items():
        add(f"--{name}", type=int, default=value, help=f"default {value}")
    add("--share", type=float, default=0.1, help="share of known points")
    add_threads_option(parser)
    return parser.parse_args(argv)


def flows(side, number, split):
    """Simulated flows, whose medium is a feature that can be hidden."""
    simulator = DarcyFlow(resolution=side, solve_resolution=4 * side - 3)
    return [
        Data(pos=flow.pos, permeability=flow.x[:, 2:], y=flow.y)
        for flow in SimulatedDataset("data", simulator, number, split)
    ]


def make_module(kind, train, known, args):
    """The same network and budget for both kinds; draws need the state and the time."""
    sizes = {"hidden_channels": 32, "num_layers": 3, "heads": 4, "num_latents": 16}
    sizes |= {"kv_layers": 0, "mlp_layers": 1}
    draws = int(kind is GenerativeModule)
    if draws:
        sizes |= {"condition_octaves": 4, "latent_conditions": True}
    muon = {"optimizer": "muon", "learning_rate": 2e-3, "cycle_momentum": False}
    muon |= {"epochs": args.epochs, "batch_size": 8}
    recipe = Recipe(model_class=FLARE, model=sizes, **muon)
    seen = (torch.cat([d.permeability, d.permeability_known], 1) for d in known)
    box = Normalizer([0.5] * 2, [0.5] * 2)
    torch.manual_seed(args.seed)
    return kind(
        recipe.build(4 + draws, 1, condition_channels=draws),
        Normalizer.gaussian(flow.y for flow in train),
        Normalizer.from_bounds([0.0, 0.0], [1.0, 1.0]),
        recipe,
        "simulated flows",
        fields=[Field("pressure")],
        features=[Field("permeability"), Field("permeability_known")],
        input_normalizer=Normalizer.cat([box, Normalizer.gaussian(seen)]),
    )


def measure(mean, low, high, truth):
    """Error of a mean, and what a band of 90 % holds."""
    return {
        "relative_l2": relative_l2(mean, truth.y, truth.batch).mean().item(),
        "coverage": ((truth.y >= low) & (truth.y <= high)).float().mean().item(),
        "relative_width": ((high - low).mean() / truth.y.std()).item(),
    }


def correlation(spread, error, batch):
    """Of spread and error: over all points, and over root mean squares of flows."""
    flows = [scatter(t.square()[:, 0], batch, reduce="mean") for t in (spread, error)]
    pairs = (spread[:, 0], error[:, 0].abs()), [flow.sqrt() for flow in flows]
    return [torch.corrcoef(torch.stack([*pair]))[0, 1].item() for pair in pairs]


def draw(flow, draws, path):
    """What is known of the medium, the truth, mean and spread, and two draws."""
    known = flow.permeability.masked_fill(flow.permeability_known == 0, torch.nan)
    pictures = {"known permeability": known, "spread": draws.std(0), "truth": flow.y}
    pictures |= {"mean": draws.mean(0), "a draw": draws[0], "another draw": draws[1]}
    figure = Figure(figsize=(12, 7), layout="constrained")
    figure.suptitle("Pressure of a simulated Darcy flow")
    for number, (name, values) in enumerate(pictures.items()):
        axis = figure.add_subplot(2, 3, number + 1, title=name, xticks=[], yticks=[])
        square = values.view(round(len(values) ** 0.5), -1).T.numpy()
        limits = {"vmin": 0, "vmax": float(flow.y.max())} if number > 1 else {}
        picture = axis.imshow(square, origin="lower", **limits)
        figure.colorbar(picture, ax=axis)
    figure.savefig(path, dpi=120)


@user_errors()
def main(argv=None):
    """Simulate, train both, measure, draw."""
    args = parse_args(argv)
    hide = HideFeature("permeability", args.share)
    numbers = {"train": args.num_train, "val": 100, "test": args.num_test}
    parts = [flows(args.side, number, split) for split, number in numbers.items()]
    torch.manual_seed(0)
    known, further, test = ([*map(hide, part)] for part in parts)
    train, truth = parts[0], Batch.from_data_list(test)
    data = SurrogateDataModule(
        train, train_transform=hide, seed=args.seed, batch_size=8
    )
    results, folder = {"data": "simulated", **vars(args)}, run_folder("runs/generative")
    for kind in (SurrogateModule, GenerativeModule):
        module = make_module(kind, train, known, args)
        surrogate = fit(module, data, folder / kind.__name__, progress=False)
        if kind is SurrogateModule:
            surrogate.calibrate(further, 0.9)
            y, half = surrogate.predict(truth), surrogate.band(truth)
            answer = y, y - half, y + half
        else:
            draws = surrogate.sample(truth, args.num_draws, num_steps=args.num_steps)
            low, high = draws.quantile(torch.tensor([0.05, 0.95]), dim=0)
            answer = draws.mean(0), low, high
        results[kind.__name__] = measure(*answer, truth)
    mean, average = draws.mean(0), torch.stack([flow.y for flow in train]).mean(0)
    results["correlations"] = correlation(draws.std(0), mean - truth.y, truth.batch)
    errors = {"one_draw": draws[0], "training_mean": average.repeat(len(test), 1)}
    for name, y in errors.items():
        results[name] = relative_l2(y, truth.y, truth.batch).mean().item()
    middle = relative_l2(mean, truth.y, truth.batch).argsort()[len(test) // 2]
    draw(test[middle], draws[:, truth.batch == middle], folder / "draws.png")
    (folder / "metrics.json").write_text(json.dumps(results, indent=2))
    print(json.dumps(results, indent=2))
    return results


if __name__ == "__main__":
    main()
