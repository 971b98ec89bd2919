"""Train on a folder of your own meshes and predict on the held-out ones.

    python examples/own_meshes.py                  # simulated cars, a minute or two
    python examples/own_meshes.py my_folder --fields pressure --location cell
    python examples/own_meshes.py my_folder --fields "pressure=static-pressure (Pa)"

A folder of `.vtu` or `.vtp` files with fields on their cells or points is a data set.
Without one, 60 cars in potential flow are simulated and saved as such files first.
Prints the test error and that of the mean value, and writes files for ParaView.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:  # waiting threads yield the CPU
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import argparse
import json
from pathlib import Path

import numpy as np
import pyvista as pv
import torch

from torch_geometric_flare import FLARE, mesh_io
from torch_geometric_flare.datasets import MeshFolder
from torch_geometric_flare.fields import Field, read_fields
from torch_geometric_flare.metrics import relative_l2_per_field, zero_graphs
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.simulation import Notchback, NotchbackShape
from torch_geometric_flare.training import (
    SurrogateDataModule,
    SurrogateModule,
    add_threads_option,
    evaluate,
    fit,
    run_folder,
    user_errors,
)
from torch_geometric_flare.visualization import plot_mesh

SIMULATED = Path("data", "simulated_car_meshes")


def parse_args(argv=None):
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("folder", nargs="?", type=Path, help="folder of meshes; simulated by default")
    add("--fields", default="pressure", help="NAME or NAME=ARRAY, by commas")
    add("--location", default="cell", choices=("cell", "point"))
    add("--num-meshes", type=int, default=60, help="number of meshes to simulate")
    add("--epochs", type=int, default=40)
    add("--seed", type=int, default=0)
    add_threads_option(parser)
    return parser.parse_args(argv)


def car_mesh(rng):
    """A simulated car as a closed surface, with the pressure in m²/s² on its cells."""
    solver = Notchback(panels_along=32, panels_around=12)
    flow = solver.solve(NotchbackShape.sample(rng))
    mirrored = flow.lattice[:, :0:-1] * [1, -1, 1]
    lattice = np.concatenate([mirrored, flow.lattice], axis=1)
    pressure = 0.5 * solver.speed**2 * flow.pressure_coefficient
    mesh = pv.StructuredGrid(*np.moveaxis(lattice[:, :, None], -1, 0))
    both = np.concatenate([pressure[:, ::-1], pressure], axis=1)
    mesh.cell_data["pressure"] = both.ravel(order="F").astype(np.float32)
    return mesh.extract_surface(algorithm="dataset_surface").clean()


def simulate(number):
    """Write the simulated cars that are not there yet; return their folder."""
    folder = SIMULATED.with_name(f"{SIMULATED.name}_{number}")
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        path = folder / f"car_{index:03}.vtp"
        if not path.exists():
            mesh_io.save_dataset(car_mesh(np.random.default_rng(index)), path)
    return folder


def predict(surrogate, test, output):
    """Write the test meshes with their prediction; return them by name."""
    output.mkdir()
    meshes = {}
    for name, (source,) in test.sample_files().items():
        meshes[name] = surrogate.predict_mesh(source)
        mesh_io.save_dataset(meshes[name], output / name)
    return meshes


@user_errors()
def main(argv=None):
    """Read, train, predict."""
    args = parse_args(argv)
    torch.manual_seed(args.seed)
    folder = args.folder or simulate(args.num_meshes)
    kind = "simulated cars" if args.folder is None else f"meshes of {folder.name}"
    simulated = [Field("pressure", 1, "m²/s²")]
    fields = read_fields(args.fields) if args.folder else simulated
    options = {"fields": fields, "location": args.location}
    train, test = (
        MeshFolder(folder, split, **options, fractions=(0.8, 0.0, 0.2), seed=args.seed)
        for split in ("train", "test")
    )
    sizes = {"hidden_channels": 64, "num_layers": 2, "heads": 8, "num_latents": 32}
    short = {"epochs": args.epochs, "batch_size": 1, "learning_rate": 2e-3}
    recipe = Recipe(model_class=FLARE, model=sizes, **short)
    module = SurrogateModule(
        recipe.build_for(train),
        recipe=recipe,
        training_data=kind,
        **train.surrogate_arguments(),
    )
    run = run_folder(Path("runs", "meshes" if args.folder else "meshes-simulated"))
    data = SurrogateDataModule(train, batch_size=recipe.batch_size, seed=args.seed)
    surrogate = fit(module, data, run)
    meshes = predict(surrogate, test, run / "predicted")
    names = list(meshes)
    # Of a field that is zero on a whole mesh absolute, in units of its scale.
    errors = evaluate(surrogate, test)
    shift, scale = surrogate.target_normalizer.shift, surrogate.target_normalizer.scale
    constants = [
        torch.cat(
            [
                *relative_l2_per_field(
                    shift + 0 * y, y, fields, zero_scale=scale
                ).values()
            ]
        )
        for y in (data.y for data in test)
    ]
    truths = [surrogate.split(data.y).values() for data in test]
    zero = [n for n, ys in zip(names, truths, strict=True) if any(map(zero_graphs, ys))]
    median = int(errors.argsort()[len(errors) // 2])
    flow = None if args.folder else (1.0, 0.0, 0.0)  # of the simulated cars
    for field in surrogate.fields:
        title = f"{names[median]} ({kind}), median error {errors[median]:.1%}"
        title = title.replace("$", r"\$")  # no formula of Matplotlib
        figure = plot_mesh(meshes[names[median]], field, title=title, flow=flow)
        figure.savefig(run / f"{field.name}.png", dpi=150)
    results = {
        "data": kind,
        "num_train": len(train),
        "num_test": len(test),
        "relative_l2": errors.mean().item(),
        "relative_l2_of_training_mean": torch.stack(constants).mean().item(),
        "worst_mesh": names[int(errors.argmax())],
        **({"meshes_of_absolute_error": zero} if zero else {}),
    }
    (run / "metrics.json").write_text(json.dumps(results, indent=2))
    for name, value in results.items():
        print(f"{name:32}", f"{value:.4g}" if isinstance(value, float) else value)
    print(f"{run}: metrics.json, last.ckpt, pictures, and meshes in predicted")
    return results


if __name__ == "__main__":
    main()
