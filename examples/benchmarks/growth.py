"""Compare growing the number of latents during training with a fixed number.

    python examples/benchmarks/growth.py                       # three seeds
    python examples/benchmarks/growth.py --epochs 4 --seeds 1

Trains the quick FLARE on 200 simulated blocks of elasticity with 16, 64 and 256
latents, and with 16 that become 64 after a quarter and 256 after half of the steps.
Each line shows one of these: the mean test error of every seed, and the CPU seconds of
the whole training and until the test error first fell to each of `--errors`. CPU
seconds exclude other processes of the machine.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace

import torch
from lightning.pytorch.callbacks import Callback

from torch_geometric_flare.experiments import ELASTICITY, Selection
from torch_geometric_flare.experiments.build import make_module
from torch_geometric_flare.recipes import change_recipe
from torch_geometric_flare.training import (
    GrowLatents,
    SurrogateDataModule,
    add_threads_option,
    fit,
    read_history,
    user_errors,
)

SMALL, MIDDLE, LARGE = 16, 64, 256


class EpochSeconds(Callback):
    """Counts the processor's seconds of training, without those of validation."""

    def __init__(self):
        self.seconds, self.total, self.start = [], 0.0, 0.0

    def on_train_epoch_start(self, trainer, module):
        """Start the clock."""
        self.start = time.process_time()

    def on_validation_start(self, trainer, module):
        """Stop the clock at the end of an epoch."""
        self.total += time.process_time() - self.start
        self.seconds.append(self.total)


def run(recipe, splits, seed, schedule, noise):
    """Train once; return the test error and the seconds so far of every epoch."""
    torch.manual_seed(seed)
    module = make_module(splits, recipe, "simulated blocks")
    data = SurrogateDataModule(
        splits.train, val=splits.test, batch_size=recipe.batch_size, seed=seed
    )
    clock = EpochSeconds()
    growth = []
    if schedule:
        growth = [GrowLatents(schedule, every="step", noise=noise, seed=seed)]
    with tempfile.TemporaryDirectory() as folder:
        fit(module, data, folder, callbacks=[clock, *growth], progress=False)
        errors = read_history(folder)["val_relative_l2"]
    return errors, clock.seconds


def seconds_to(error, errors, seconds):
    """Seconds until the error was reached, `None` if it never was."""
    reached = [s for e, s in zip(errors, seconds, strict=True) if e <= error]
    return reached[0] if reached else None


@user_errors()
def main(argv=None):
    """Print a line for each number of latents."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--seeds", type=int, default=3)
    add("--epochs", type=int, default=8)
    add("--root", default="data", help="folder of the data sets")
    add("--num-train", type=int, default=200)
    add("--num-test", type=int, default=50)
    add("--noise", type=float, nargs="+", default=[0.01, 0.3, 1.0], help="of copies")
    add("--errors", type=float, nargs="+", default=[0.25, 0.2, 0.15])
    add_threads_option(parser)
    args = parser.parse_args(argv)
    splits = ELASTICITY.load(
        Selection(root=args.root, num_train=args.num_train, num_test=args.num_test)
    )
    recipe = replace(ELASTICITY.recipe("FLARE", "quick"), epochs=args.epochs)
    steps = args.epochs * -(-args.num_train // recipe.batch_size)
    schedule = {0: SMALL, steps // 4: MIDDLE, steps // 2: LARGE}
    variants = [(latents, None, None) for latents in (SMALL, MIDDLE, LARGE)]
    variants += [(SMALL, schedule, noise) for noise in args.noise]
    for latents, grown, noise in variants:
        changed = change_recipe(recipe, {"num_latents": latents})
        runs = [run(changed, splits, seed, grown, noise) for seed in range(args.seeds)]
        errors = [errors[-1] for errors, _ in runs]
        line = {
            "latents": list(grown.values()) if grown else latents,
            **({"noise": noise} if grown else {}),
            "mean": round(statistics.mean(errors), 4),
            "errors": [round(error, 4) for error in errors],
            "seconds": round(statistics.mean(seconds[-1] for _, seconds in runs), 1),
        }
        for error in args.errors:
            times = [seconds_to(error, *one) for one in runs]
            line[f"seconds to {error}"] = (
                None if None in times else round(statistics.mean(times), 1)
            )
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
