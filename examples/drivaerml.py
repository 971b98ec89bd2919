"""Learn the surface pressure of cars: on simulated notchbacks, or on DrivAerML.

    python examples/drivaerml.py                                   # simulated, minutes
    python examples/drivaerml.py --data official --recipe paper    # downloads DrivAerML

Writes metrics, pictures, a file for ParaView and the checkpoint to a folder in `runs`.
"""

import argparse
import json
import shlex
import sys
import time
from dataclasses import replace

import torch
from torch_geometric.transforms import FixedPoints

from torch_geometric_flare import datasets, metrics, recipes, training, visualization
from torch_geometric_flare.nn import models
from torch_geometric_flare.simulation import Notchback
from torch_geometric_flare.transforms import Normalizer

OFFICIAL = datasets.DrivAerML
RECIPES = {"quick": recipes.FLARE_DRIVAERML_QUICK, "paper": recipes.FLARE_DRIVAERML}


def parse_args(argv=None):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--data", choices=["simulated", "official"], default="simulated")
    add("--root", default="data", help="folder of the data sets")
    add("--num-points", help="points a car; 10k (simulated) or 40k (official)")
    add("--num-train", type=int, default=100, help="simulated cars to train on")
    add("--num-test", type=int, default=20, help="simulated cars to test on")
    add("--model", choices=models.__all__, default="FLARE")
    add("--recipe", choices=RECIPES, default="quick")
    add("--epochs", type=int, help="instead of the recipe's")
    add("--resume", metavar="RUN", help="carry on in this folder of a killed run")
    add("--device", default="auto", help="cpu, cuda, ... as Lightning names it")
    add("--precision", default="32-true", help="as Lightning names it")
    add("--seed", type=int, default=0)
    return parser.parse_args(argv)


def load_data(args):
    """The training and the test split, normalisers of pressure and coordinates."""
    if args.data == "official":
        size = args.num_points or "40k"
        train, test = (OFFICIAL(args.root, split, size) for split in ("train", "test"))
        target = Normalizer([OFFICIAL.pressure_mean], [OFFICIAL.pressure_std])
        bounds = Normalizer.from_bounds(*OFFICIAL.coordinate_bounds)
        return train, test, target, bounds
    size = (args.num_points or "10k").lower().replace("m", "000k").replace("k", "000")
    if not size.isdecimal():
        raise ValueError(f"--num-points is {args.num_points}: give 4000, 10k or 1m")
    cars = Notchback(num_points=int(size))
    # A few small cars: held in memory, not read again in every epoch.
    train, test = (
        list(datasets.SimulatedDataset(args.root, cars, number, split))
        for split, number in (("train", args.num_train), ("test", args.num_test))
    )
    target = Normalizer.gaussian(car.y for car in train)
    return train, test, target, Normalizer.from_bounds(*cars.coordinate_bounds)


def mean_forces(cars, pressures, kind):
    """Mean drag and lift coefficients; `None` without normals and areas."""
    names = [f"{name}_coefficient_{kind}" for name in ("drag", "lift")]
    if "normal" not in cars[0]:
        return dict.fromkeys(names)
    road = {"speed": OFFICIAL.speed, "reference_area": OFFICIAL.reference_area}
    forces = [
        metrics.force_coefficients(pressure, car.normal, car.area, **road)
        for car, pressure in zip(cars, pressures, strict=True)
    ]
    means = torch.tensor(forces).mean(0).tolist()
    return dict(zip(names, means, strict=True))


def draw(run, args, car, prediction, error):
    """Write the pictures and the file for ParaView."""
    title = f"{args.data} car, relative L2 error {error:.1%}"
    cells = {"normal": car.get("normal"), "area": car.get("area")}
    surface = visualization.plot_surface_comparison(
        car.pos, car.y, prediction, title=title, **cells
    )
    surface.savefig(run / "surface.png", dpi=150)
    history = training.read_history(run)
    curves = {"training": (history["epoch"], history["train_relative_l2"])}
    what = f"{args.data} cars"
    loss = visualization.plot_training_curves(curves, title=what, xlabel="epoch")
    loss.savefig(run / "loss.png", dpi=150)
    fields = {"truth": car.y, "prediction": prediction, "error": prediction - car.y}
    visualization.write_point_cloud(
        run / "prediction.vtp", car.pos, fields, notes={"title": title}
    )


@training.user_errors()
def main(argv=None):
    """Train, measure, draw."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse_args(argv)
    start = time.perf_counter()
    torch.manual_seed(args.seed)
    recipe = RECIPES[args.recipe]
    if args.epochs is not None:
        recipe = replace(recipe, epochs=args.epochs)
    run = training.run_folder(f"runs/drivaerml-{args.data}", args.resume)
    again = [] if args.resume else [f"--resume={run}"]
    print(f"{run}, to be carried on, if it is killed, by")
    print(" ", shlex.join(["python", sys.argv[0], *argv, *again]))
    train, test, target, bounds = load_data(args)
    model = getattr(models, args.model)(in_channels=3, out_channels=1, **recipe.model)
    what = f"{args.data} cars"
    module = training.SurrogateModule(model, target, bounds, recipe, training_data=what)
    subset = recipe.num_points and FixedPoints(recipe.num_points, replace=False)
    data = training.SurrogateDataModule(
        train, batch_size=recipe.batch_size, train_transform=subset, seed=args.seed
    )
    print(f"{len(train)} {what} to train on, {len(test)} to test on; {model}")
    options = {"accelerator": args.device, "precision": args.precision}
    surrogate = training.fit(module, data, run, resume=bool(args.resume), **options)

    compared = training.compare_with_baselines(surrogate, train, test)
    results = {
        "data": args.data,
        **compared.mean_errors(),
        **mean_forces(test, [car.y for car in test], "true"),
        **mean_forces(test, compared.predictions, "predicted"),
        "num_train": len(train),
        "num_test": len(test),
        "num_points": test[0].num_nodes,
        "epochs": recipe.epochs,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.perf_counter() - start, 1),
    }
    (run / "metrics.json").write_text(json.dumps(results, indent=2) + "\n")
    # The car of median error stands for all.
    i = int(compared.relative_l2.argsort()[len(test) // 2])
    draw(run, args, test[i], compared.predictions[i], float(compared.relative_l2[i]))
    for name, value in results.items():
        print(f"{name:40}", f"{value:.4g}" if isinstance(value, float) else value)
    print(f"{run}: {', '.join(sorted(path.name for path in run.iterdir()))}")


if __name__ == "__main__":
    main()
