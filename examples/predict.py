"""Predict the pressure on a car of your own with a trained surrogate.

    python examples/predict.py runs/car/last.ckpt my_car.stl

reads a mesh (.stl, .ply, .obj, .vtp, .vtu or .vtk) and writes
`my_car_stl_predicted.vtp`, the same mesh with the field `pressure`, in the units of the
training (kinematic pressure in m²/s² for cars). The file opens in ParaView.

The car must stand as those of the training do: in metres, flow along +x, z up. Meshes
in other units are scaled for the prediction by `--scale`; the file keeps their own
coordinates. The field is predicted at the vertices or, with `--cells`, at the centres
of the cells, as finely as the mesh is. A mesh keeps all its points: of a volume mesh,
extract the surface first where the surrogate has seen surfaces alone.

The checkpoint must hold a `coordinate_normalizer` made by `Normalizer.from_bounds`,
and its model must need nothing but coordinates.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pyvista as pv
import torch
from torch import Tensor

from torch_geometric_flare.surrogates import Surrogate, load_surrogate
from torch_geometric_flare.visualization import MESH_SUFFIXES, read_mesh, save_dataset

UNITS = {"millimetres": 1e-3, "centimetres": 1e-2, "inches": 0.0254, "feet": 0.3048}


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
    add("mesh", type=Path, help=f"mesh file: {', '.join(MESH_SUFFIXES)}")
    add("--output", type=Path, help="file to write; next to the mesh by default")
    add("--cells", action="store_true", help="predict at the centres of the cells")
    add("--scale", type=float, default=1.0, help="metres in one unit of the mesh")
    add("--chunk", type=int, metavar="POINTS", help="predict so many at a time")
    add("--device", default="cpu", help="where to predict: cpu, cuda")
    return parser.parse_args(arguments)


def predict(args: argparse.Namespace) -> Path:
    """Read, predict and write; errors of the user are `OSError` or `ValueError`."""
    if not 0 < args.scale < float("inf"):
        raise ValueError(f"--scale {args.scale}: give the metres in one unit, above 0")
    mesh = read_mesh(args.mesh)
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
    check_extent(pos, surrogate, args.mesh)
    field = surrogate.predict(pos.to(args.device, torch.float32)).cpu()
    if not field.isfinite().all():
        raise ValueError(f"{args.checkpoint} predicts values that are not finite")

    values = field.squeeze(1).numpy()
    (mesh.cell_data if args.cells else mesh.point_data)["pressure"] = values
    mesh.field_data["provenance"] = [provenance(args.checkpoint, surrogate)]
    print(f"pressure at {len(values):,} points: {values.min():g} to {values.max():g}")
    return save_dataset(mesh, output)


def check_extent(pos: Tensor, surrogate: Surrogate, path: Path) -> None:
    """Refuse a mesh that is far from anything that the surrogate was trained on."""
    box = surrogate.coordinate_normalizer
    if box is None:
        raise ValueError(
            "the checkpoint holds no coordinate_normalizer: train with one"
        )
    lower, size = box.shift.double().cpu(), box.scale.double().cpu()
    low, high = pos.amin(0), pos.amax(0)
    # Half the trained size may stick out on each side, less than a third is no car.
    inside = ((low - lower) / size > -0.5) & ((high - lower) / size < 1.5)
    if inside.all() and ((high - low) / size).max() > 0.3:
        share = ((pos >= lower) & (pos <= lower + size)).all(1).double().mean().item()
        print(f"{share:.0%} of {path} lies in the box that the model was trained on")
        if share < 0.8:
            print("warning: expect large errors outside of that box", file=sys.stderr)
        return
    ratio = float(size.max() / (high - low).max())
    hints = [
        f"--scale {factor} if the mesh is in {unit}"
        for unit, factor in UNITS.items()
        if 0.5 < ratio / factor < 2
    ]
    raise ValueError(
        f"{path} extends over {describe(low, high)}, but the model was trained on "
        f"{describe(lower, lower + size)} (metres, flow along +x, z up). "
        f"Give {' or '.join(hints) or '--scale FACTOR for other units than metres'}, "
        "or move and turn the mesh"
    )


def describe(lower: Tensor, upper: Tensor) -> str:
    """Write a box as intervals."""
    pairs = zip("xyz", lower.tolist(), upper.tolist(), strict=True)
    return ", ".join(f"{axis} [{low:.4g}, {high:.4g}]" for axis, low, high in pairs)


def provenance(checkpoint: Path, surrogate: Surrogate) -> str:
    """Say where the numbers come from."""
    data = surrogate.training_data or "data that it does not name"
    source = Path(*checkpoint.resolve().parts[-2:])
    model = type(surrogate.model).__name__
    return f"predicted by {model} from checkpoint {source}, trained on {data}"


if __name__ == "__main__":
    sys.exit(main())
