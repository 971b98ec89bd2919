"""Train on coarse grids and predict on finer ones.

    python examples/resolution.py                  # simulated Darcy flow, an hour
    python examples/resolution.py --models FLARE,FLAREHybrid --seeds 1 --epochs 4
    python examples/resolution.py --models FLARE --weighted   # points count by area

Surrogates learn simulated Darcy flow on 16 x 16 points. They are tested on other flows
at this resolution, and on the same flows on 31 x 31 points, which is unseen in
training. Prints the errors at both, and writes `metrics.json`.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # waiting threads yield the CPU
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import argparse
import json
import math
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from torch_geometric_flare import recipes
from torch_geometric_flare.experiments import DARCY, Selection
from torch_geometric_flare.training import (
    SurrogateDataModule,
    SurrogateModule,
    add_threads_option,
    evaluate,
    fit,
    run_folder,
    user_errors,
)
from torch_geometric_flare.transforms import GridStride

FINE = 31  # points along a side; every other one makes the coarse grid
COARSE = 16


def short(recipe, **arguments):
    """The recipe of a smaller network for the coarse grid."""
    model = {**recipe.model, "hidden_channels": 64, "num_layers": 4, **arguments}
    model["init"] = "scaled"
    recipe = replace(recipe, optimizer="muon", cycle_momentum=False, model=model)
    return replace(recipe, epochs=40, batch_size=4, learning_rate=2e-3)


RECIPES = {
    "FLARE": short(recipes.FLARE_DARCY, num_latents=64, heads=8),
    "FLAREHybrid": short(
        recipes.FLARE_HYBRID_DARCY,
        num_latents=64,
        radius=2 / (COARSE - 1),  # two cells of the coarse grid, four of the fine one
    ),
    "TransolverConv": short(recipes.TRANSOLVER_CONV_DARCY, grid=(COARSE, COARSE)),
}


def parse_args(argv=None):
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--models", default=",".join(RECIPES), help="model names, separated by commas")
    add("--num-train", type=int, default=1000)
    add("--num-test", type=int, default=100)
    add("--epochs", type=int, default=40)
    add("--seeds", type=int, default=3, help="trainings per model")
    add("--weighted", action="store_true", help="weight the points by their areas")
    add_threads_option(parser)
    args = parser.parse_args(argv)
    args.models = args.models.split(",")
    for name in args.models:
        if name not in RECIPES:
            parser.error(f"--models has {name!r}, expected {', '.join(RECIPES)}")
    for name in ("num_train", "num_test", "epochs", "seeds"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return args


def build(recipe):
    """A network for x, y and the permeability of a point."""
    return recipe.build(in_channels=3, out_channels=1)


def run(recipe, splits, seed, folder):
    """Train on the coarse grid; return the errors on both."""
    torch.manual_seed(seed)
    module = SurrogateModule(
        build(recipe),
        splits.target_normalizer,
        splits.coordinate_normalizer,
        recipe,
        training_data="simulated flows",
        fields=splits.fields,
        features=splits.features,
        input_normalizer=splits.input_normalizer,
        weighted=splits.weighted,
    )
    coarsen = GridStride((FINE - 1) // (COARSE - 1))
    train, test = (list(map(coarsen, split)) for split in (splits.train, splits.test))
    data = SurrogateDataModule(train, batch_size=recipe.batch_size, seed=seed)
    start = time.perf_counter()
    surrogate = fit(module, data, folder, progress=False)
    record = {
        "parameters": sum(p.numel() for p in surrogate.model.parameters()),
        "training_seconds": time.perf_counter() - start,
        "coarse": evaluate(surrogate, test).mean().item(),
    }
    if "grid" in recipe.model:
        # Its weights fit every grid, the network is made for one.
        finer = replace(recipe, model={**recipe.model, "grid": (FINE, FINE)})
        network = build(finer)
        network.load_state_dict(surrogate.model.state_dict())
        surrogate.model = network.eval()
    record["fine"] = evaluate(surrogate, list(splits.test)).mean().item()
    return record


@user_errors()
def main(argv=None):
    """Train each model with each seed, and print a table."""
    args = parse_args(argv)
    numbers = {"num_train": args.num_train, "num_test": args.num_test}
    points = {"num_points": str(FINE**2), "weighted": args.weighted}
    splits = DARCY.load(Selection(**numbers, **points))
    folder = run_folder(Path("runs", "resolution-simulated"))
    results = {"data": "simulated", **vars(args), "runs": {}}
    for name in args.models:
        recipe = replace(RECIPES[name], epochs=args.epochs)
        results["runs"][name] = []
        for seed in range(args.seeds):
            record = run(recipe, splits, seed, folder / f"{name}-seed{seed}")
            results["runs"][name].append(record)
            (folder / "metrics.json").write_text(json.dumps(results, indent=2))
            print(name, seed, json.dumps(record), flush=True)
    sizes = f"{COARSE} x {COARSE}", f"{FINE} x {FINE}"
    print(f"\n| Model | Parameters | Training (s) | {sizes[0]} | {sizes[1]} |")
    print("|---|---:|---:|---:|---:|")
    for name, records in results["runs"].items():
        cells = [f"{records[0]['parameters']:,}"]
        cells += [f"{statistics.mean(r['training_seconds'] for r in records):.0f}"]
        for grid in ("coarse", "fine"):
            errors = [r[grid] for r in records]
            spread = statistics.stdev(errors) if len(errors) > 1 else math.nan
            cells.append(f"{statistics.mean(errors):.3f} ± {spread:.3f}")
        print("|", " | ".join([name, *cells]), "|")
    print(f"\nRelative L2 error on simulated flows. {folder}: metrics.json")
    return results


if __name__ == "__main__":
    main()
