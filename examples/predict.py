"""Predict fields on a mesh of your own with a trained surrogate.

    python examples/predict.py runs/car/last.ckpt my_car.stl

reads a mesh (.stl, .ply, .obj, .vtp, .vtu or .vtk) and writes
`my_car_stl_predicted.vtp`, the same mesh with the fields of the checkpoint by their
names, such as `pressure`, in the units of the training. It opens in ParaView.

A body must stand as those of the training do; a car in metres, flow along +x, z up.
Meshes in other units are scaled for the prediction by `--scale`; the file keeps their
own coordinates. Fields are predicted at the vertices or, with `--cells`, at the centres
of the cells, as finely as the mesh is. A mesh keeps all its points: of a volume mesh,
extract the surface first where the surrogate has seen surfaces alone.

The checkpoint must hold a `coordinate_normalizer` made by `Normalizer.from_bounds`.
Inputs besides the coordinates are arrays of the mesh of that name, or constants by
`--set`, each number in the unit of the training; normals and areas are computed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pyvista as pv
import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare import mesh_io
from torch_geometric_flare.surrogates import Surrogate, load_surrogate


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = parse(arguments)
    try:
        output = predict(args)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {output}")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("checkpoint", type=Path, help="checkpoint of a training")
    add("mesh", type=Path, help=f"mesh file: {', '.join(mesh_io.MESH_SUFFIXES)}")
    add("--output", type=Path, help="file to write; next to the mesh by default")
    add("--cells", action="store_true", help="predict at the centres of the cells")
    add("--scale", type=float, default=1.0, help="metres in one unit of the mesh")
    add(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE[,VALUE]",
        help="an input of the model that is the same everywhere",
    )
    add("--chunk", type=int, metavar="POINTS", help="predict so many at a time")
    add("--device", default="cpu", help="where to predict: cpu, cuda")
    return parser.parse_args(arguments)


def predict(args: argparse.Namespace) -> Path:
    """Read, predict and write; errors of the user are `OSError` or `ValueError`."""
    if not 0 < args.scale < float("inf"):
        raise ValueError(f"--scale {args.scale}: give the metres in one unit, above 0")
    mesh = mesh_io.read_mesh(args.mesh)
    suffix = ".vtp" if isinstance(mesh, pv.PolyData) else ".vtu"
    name = f"{args.mesh.stem}_{args.mesh.suffix[1:].lower()}_predicted{suffix}"
    output = args.output or args.mesh.with_name(name)
    if output.suffix.lower() not in (suffix, ".vtk"):  # others would drop the field
        raise ValueError(f"--output {output}: this mesh is written as {suffix} or .vtk")
    if output.exists() and output.samefile(args.mesh):
        raise ValueError(f"--output {output} is the mesh itself: choose another file")
    surrogate = load_surrogate(args.checkpoint, device=args.device)
    if args.chunk is not None:
        if not hasattr(surrogate.model, "chunk_size"):
            raise ValueError("--chunk: this model cannot be computed in chunks")
        surrogate.model.chunk_size = args.chunk

    points = (mesh.cell_centers() if args.cells else mesh).points
    pos = torch.tensor(points, dtype=torch.float64) * args.scale
    pos = check_place(pos, surrogate, args.mesh)
    constants = dict(constant(text) for text in args.set)
    inputs = mesh_io.find_features(
        mesh, surrogate.features, constants, cells=args.cells, scale=args.scale
    )
    data = Data(pos=pos.float(), **inputs).to(args.device)
    predicted = surrogate.predict(data).cpu()
    if not predicted.isfinite().all():
        raise ValueError(f"{args.checkpoint} predicts values that are not finite")

    notes = {"provenance": provenance(args.checkpoint, surrogate)}
    arrays = mesh.cell_data if args.cells else mesh.point_data
    for field in surrogate.fields:
        values = surrogate.split(predicted)[field.name].squeeze(1).numpy()
        arrays[field.name] = values
        notes[f"{field.name}_unit"] = field.unit
        low, high = values.min(), values.max()
        print(f"{field} at {len(values):,} points: {low:g} to {high:g}")
    mesh_io.add_notes(mesh, notes)
    return mesh_io.save_dataset(mesh, output)


def constant(text: str) -> tuple[str, list[float]]:
    """Read what `--set` was given."""
    name, _, values = text.partition("=")
    try:
        return name, [float(value) for value in values.split(",")]
    except ValueError:
        raise ValueError(f"--set {text}: give NAME=VALUE, or NAME=X,Y,Z") from None


def check_place(pos: Tensor, surrogate: Surrogate, path: Path) -> Tensor:
    """Return the coordinates that the model takes; refuse a mesh far from its box."""
    box = surrogate.coordinate_normalizer
    if box is None:
        raise ValueError("the checkpoint has no coordinate_normalizer: train with one")
    lower, size = box.shift.double().cpu(), box.scale.double().cpu()
    if (pos != pos[0])[:, len(size) :].any():
        raise ValueError(f"{path} is not flat, but the model was trained in the plane")
    pos = pos[:, : len(size)]
    try:
        share = mesh_io.check_extent(pos, lower, lower + size, option="--scale ")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    print(f"{share:.0%} of {path} lies in the box that the model was trained on")
    if share < 0.8:
        print("warning: expect large errors outside of that box", file=sys.stderr)
    return pos


def provenance(checkpoint: Path, surrogate: Surrogate) -> str:
    """Say where the numbers come from."""
    data = surrogate.training_data or "data that it does not name"
    source = Path(*checkpoint.resolve().parts[-2:])
    model = type(surrogate.model).__name__
    return f"predicted by {model} from checkpoint {source}, trained on {data}"


if __name__ == "__main__":
    sys.exit(main())
