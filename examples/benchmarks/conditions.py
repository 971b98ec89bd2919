"""Compare ways to pass a condition: through norms, as a feature, or not at all.

    python examples/benchmarks/conditions.py                          # three seeds
    python examples/benchmarks/conditions.py --seeds 1 --steps 200 --num-train 50

Trains the quick FLARE on simulated pipes with viscosities from 0.002 to 0.01. Each line
shows one way: the mean test error of every seed, and, over all seeds, of the thirds of
the test pipes with the smallest, medium and largest viscosity. The last line shows the
mean of the training split.
"""

import argparse
import json
import statistics
import tempfile
from dataclasses import replace

import torch

from torch_geometric_flare.datasets import MeanSample
from torch_geometric_flare.experiments import PIPE, Selection
from torch_geometric_flare.experiments.build import make_data, make_module
from torch_geometric_flare.metrics import relative_l2
from torch_geometric_flare.training import (
    add_threads_option,
    evaluate,
    fit,
    user_errors,
)

WAYS = ("film", "broadcast", "none")


def thirds(errors, viscosity):
    """Mean errors of the samples of low, middle and high viscosity."""
    parts = torch.tensor_split(errors[viscosity.argsort()], 3)
    return [round(part.mean().item(), 4) for part in parts]


def run(recipe, splits, seed):
    """Train once; return the error of each test sample."""
    torch.manual_seed(seed)
    module = make_module(splits, recipe, "simulated pipes")
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(splits, recipe, seed)
        surrogate = fit(module, data, folder, progress=False)
    return evaluate(surrogate, splits.test)


@user_errors()
def main(argv=None):
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--seeds", type=int, default=3)
    add("--steps", type=int, default=2000)
    add("--root", default="data", help="folder of the data sets")
    add("--num-train", type=int, default=400)
    add("--num-test", type=int, default=60)
    add_threads_option(parser)
    args = parser.parse_args(argv)
    given = PIPE.load(
        Selection(
            root=args.root,
            num_train=args.num_train,
            num_test=args.num_test,
            conditions="film",
        )
    )
    viscosity = torch.cat([data.u[:, 0] for data in given.test])
    recipe = PIPE.recipe("FLARE", "quick")
    batches = -(-args.num_train // recipe.batch_size)
    epochs = -(-args.steps // batches)
    recipe = replace(recipe, epochs=epochs, max_steps=args.steps)
    for way in WAYS:
        splits = given.with_conditions(way)
        runs = [run(recipe, splits, seed) for seed in range(args.seeds)]
        errors = [errors.mean().item() for errors in runs]
        line = {
            "conditions": way,
            "mean": round(statistics.mean(errors), 4),
            "errors": [round(error, 4) for error in errors],
            "by viscosity": thirds(torch.stack(runs).mean(0), viscosity),
        }
        print(json.dumps(line), flush=True)
    mean = MeanSample(given.train)
    errors = torch.cat([relative_l2(mean.predict(d), d.y) for d in given.test])
    line = {
        "conditions": "mean of the training",
        "mean": round(errors.mean().item(), 4),
    }
    print(json.dumps({**line, "by viscosity": thirds(errors, viscosity)}))


if __name__ == "__main__":
    main()
