"""Effect of initialization and optimizer on a short training.

    python examples/benchmarks/starts.py                         # all, three seeds
    python examples/benchmarks/starts.py --over num_layers=2,8 --seeds 1

Trains the quick FLARE on 200 simulated blocks of elasticity for 800 steps, and tests it
on 50 others. Each line shows one initialization and optimizer: the test error of every
seed, the training error after each quarter, and the least stable rank (the sum of
eigenvalues) of its operators before and after the training.
"""

import argparse
import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from torch_geometric_flare.analysis import spectra, stable_rank
from torch_geometric_flare.experiments import ELASTICITY, Selection
from torch_geometric_flare.experiments.build import make_module
from torch_geometric_flare.experiments.config import read_axis
from torch_geometric_flare.recipes import change_recipe
from torch_geometric_flare.training import (
    SurrogateDataModule,
    add_threads_option,
    evaluate,
    fit,
    read_history,
    user_errors,
)

EPOCHS = 4
VARIANTS = [
    {"init": init, "optimizer": optimizer, "fourier_octaves": octaves}
    for octaves in (0, 4)
    for init in ("paper", "scaled")
    for optimizer in ("adamw", "muon")
]


def least_rank(surrogate, sample):
    """The least stable rank of the operators of a FLARE, mean over the heads."""
    found = spectra(surrogate.model, surrogate.encode_input(sample))
    return min(stable_rank(block.values).mean().item() for block in found)


def run(recipe, splits, seed):
    """Train once; return what a line of the table shows."""
    torch.manual_seed(seed)
    module = make_module(splits, recipe, "simulated blocks")
    before = least_rank(module.surrogate, splits.test[0])
    data = SurrogateDataModule(splits.train, batch_size=recipe.batch_size, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        surrogate = fit(module, data, folder, progress=False)
        history = read_history(Path(folder))
    return {
        "test": evaluate(surrogate, splits.test).mean().item(),
        "train": [round(v, 3) for v in history["train_relative_l2"]],
        "rank": [round(before, 2), round(least_rank(surrogate, splits.test[0]), 2)],
    }


@user_errors()
def main(argv=None):
    """Print a line for each variant."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--seeds", type=int, default=3)
    add("--root", default="data", help="folder of the data sets")
    add("--num-train", type=int, default=200)
    add("--num-test", type=int, default=50)
    add("--over", action="append", default=[], help="NAME=VALUE,VALUE,... besides")
    add_threads_option(parser)
    args = parser.parse_args(argv)
    splits = ELASTICITY.load(
        Selection(root=args.root, num_train=args.num_train, num_test=args.num_test)
    )
    variants = VARIANTS
    for text in args.over:
        name, values = read_axis(text)
        variants = [{**v, name: value} for v in variants for value in values]
    base = replace(ELASTICITY.recipe("FLARE", "quick"), epochs=EPOCHS)
    for variant in variants:
        runs = [
            run(change_recipe(base, variant), splits, seed)
            for seed in range(args.seeds)
        ]
        errors = [one["test"] for one in runs]
        line = {
            **variant,
            "mean": round(statistics.mean(errors), 4),
            "errors": [round(error, 4) for error in errors],
            "train": runs[0]["train"],
            "rank": runs[0]["rank"],
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
