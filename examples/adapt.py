"""Adapt a surrogate to a shifted distribution with LoRA and few samples.

    python examples/adapt.py                       # simulated cars, minutes
    python examples/adapt.py --rank 2 --num-shifted 16

A surrogate learns the simulated pressure on cars without a wake. Then low-rank adapters
of `peft` learn a few cars with a modeled wake, with all weights of the surrogate
frozen; merged, they give a plain surrogate. Prints the error on new cars with a wake
before and after, and that of a network trained only on the few cars for the same number
of steps.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # waiting threads yield the CPU
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from torch_geometric_flare.datasets import SimulatedDataset
from torch_geometric_flare.recipes import FLARE_DRIVAERML_QUICK
from torch_geometric_flare.simulation import Notchback
from torch_geometric_flare.surrogates import save_surrogate
from torch_geometric_flare.training import (
    SurrogateDataModule,
    SurrogateModule,
    add_threads_option,
    evaluate,
    fit,
    run_folder,
    user_errors,
)
from torch_geometric_flare.transforms import Normalizer

try:
    from peft import LoraConfig, get_peft_model
except ModuleNotFoundError as missing:
    raise SystemExit(
        f'adapt.py needs {missing.name}: pip install ".[peft]" in a clone'
    ) from missing

# Coarser panels than the default, twelve times as fast.
WITH_WAKE = Notchback(num_points=1000, panels_along=32, panels_around=12)
WITHOUT_WAKE = replace(WITH_WAKE, base_pressure=False)


def parse_args(argv=None):
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--num-train", type=int, default=100, help="training cars without a wake")
    add("--num-shifted", type=int, default=8, help="training cars with a wake")
    add("--num-test", type=int, default=20, help="test cars with a wake")
    add("--epochs", type=int, default=20, help="epochs of the first training")
    add("--adapt-steps", type=int, default=300, help="steps of the other trainings")
    add("--rank", type=int, default=1, help="rank of the adapters")
    add("--seed", type=int, default=0)
    add_threads_option(parser)
    args = parser.parse_args(argv)
    for name, value in vars(args).items():
        if value < (least := int(name != "seed")):
            option = name.replace("_", "-")
            parser.error(f"--{option} must be at least {least}, got {value}")
    return args


def load_cars(simulator, num_cars, split):
    """Simulated cars, in memory."""
    return list(SimulatedDataset("data", simulator, num_cars, split))


def train(model, statistics, samples, recipe, folder, seed):
    """Train a network; `statistics` are the samples that normalize the target."""
    module = SurrogateModule(
        model,
        target_normalizer=Normalizer.gaussian(sample.y for sample in statistics),
        recipe=recipe,
        training_data="simulated cars",
        fields=WITH_WAKE.fields,
    )
    data = SurrogateDataModule(samples, batch_size=recipe.batch_size, seed=seed)
    return fit(module, data, folder, progress=False)


def share_of_trained(model):
    """Ratio of trained weights to all weights."""
    counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trained in counts if trained) / sum(n for n, _ in counts)


@user_errors()
def main(argv=None):
    """Train, adapt, compare."""
    args = parse_args(argv)
    torch.manual_seed(args.seed)
    cars = load_cars(WITHOUT_WAKE, args.num_train, "train")
    few = load_cars(WITH_WAKE, args.num_shifted, "train")
    test = load_cars(WITH_WAKE, args.num_test, "test")
    folder = run_folder(Path("runs", "adapt-simulated"))
    recipe = replace(
        FLARE_DRIVAERML_QUICK,
        model={**FLARE_DRIVAERML_QUICK.model, "num_layers": 2},
        epochs=args.epochs,
        num_points=None,
    )
    epochs = -(-args.adapt_steps // len(few))
    short = replace(recipe, epochs=epochs, max_steps=args.adapt_steps)

    surrogate = train(
        recipe.build(3, 1), cars, cars, recipe, folder / "first", args.seed
    )
    before = evaluate(surrogate, test).mean().item()

    # peft adds the adapters to the layers of this network.
    config = LoraConfig(
        r=args.rank, lora_alpha=8 * args.rank, target_modules="all-linear"
    )
    adapted = get_peft_model(surrogate.model, config)
    share = share_of_trained(surrogate.model)
    lora = replace(short, optimizer="adamw", learning_rate=5e-3, weight_decay=0.0)
    surrogate = train(surrogate.model, cars, few, lora, folder / "adapters", args.seed)
    adapted.merge_and_unload()
    after = evaluate(surrogate, test).mean().item()
    save_surrogate(surrogate, folder / "adapted.pt")

    scratch = train(recipe.build(3, 1), few, few, short, folder / "scratch", args.seed)
    results = {
        "data": "simulated",
        **vars(args),
        "relative_l2_before": before,
        "relative_l2_after": after,
        "relative_l2_from_scratch": evaluate(scratch, test).mean().item(),
        "share_of_trained_weights": share,
    }
    (folder / "metrics.json").write_text(json.dumps(results, indent=2))
    for name, value in results.items():
        print(f"{name:26}", f"{value:.4g}" if isinstance(value, float) else value)
    print(f"{folder}: adapted.pt, metrics.json")
    return results


if __name__ == "__main__":
    main()
