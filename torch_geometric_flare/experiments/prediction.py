"""The command line that predicts on meshes from files."""

import argparse
import csv
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyvista as pv

from torch_geometric_flare import mesh_io
from torch_geometric_flare.metrics import mesh_forces
from torch_geometric_flare.surrogates import Surrogate, load_surrogate
from torch_geometric_flare.training import add_threads_option
from torch_geometric_flare.visualization import mesh_page, plot_mesh

_Row = dict[str, str | float]


def predict_command_line(description: str, argv: Sequence[str] | None = None) -> int:
    """Predict fields on the meshes that a command line names.

    Args:
        description: What `--help` prints first.
        argv: The arguments; those of the process by default.

    Returns:
        The exit code: 2 if a mesh, the checkpoint or an option could not be used, after
        one sentence on stderr for each.
    """
    args = _parse(description, argv)
    failed = 0
    rows: list[_Row] = []
    table = Path("forces.csv")
    try:
        surrogate = _load(args)
        for path, output in _find_jobs(args.mesh, args.output):
            table = output.with_name(table.name)
            try:
                rows += _predict(args, surrogate, path, output)
            except (OSError, ValueError) as error:
                failed = _report(error, path)
    except (OSError, ValueError) as error:
        failed = _report(error)
    if rows:
        with table.open("w", newline="", encoding="utf-8") as file:
            names = dict.fromkeys(name for row in rows for name in row)
            writer = csv.DictWriter(file, list(names), restval=0)
            writer.writeheader()
            writer.writerows(rows)
        print(f"wrote {table}")
    return failed


def _parse(description: str, argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("checkpoint", type=Path, help="checkpoint of a training")
    kinds = ", ".join((*mesh_io.MESH_SUFFIXES, *mesh_io.FURTHER_SUFFIXES))
    add("mesh", type=Path, help=f"a mesh ({kinds}), or a folder of the first six kinds")
    add("--block", metavar="NAME", help="one of several blocks or patches of the file")
    add("--time", type=float, help="one of several time steps of the file")
    add("--output", type=Path, help="file or folder to write; by default beside it")
    add("--cells", action="store_true", help="predict at the centres of the cells")
    add("--scale", type=float, default=1.0, help="training units in one of the mesh")
    what = "an input of the model that is the same everywhere"
    add("--set", action="append", default=[], metavar="NAME=VALUE[,VALUE]", help=what)
    add("--chunk", type=int, metavar="POINTS", help="predict so many at a time")
    add("--device", default="cpu", help="where to predict: cpu, cuda")
    add("--png", action="store_true", help="draw each field beside the mesh written")
    add("--html", action="store_true", help="write each field as a page to turn")
    add("--forces", action="store_true", help="print and write force coefficients")
    add("--speed", type=float, help="of the free stream in m/s, for --forces")
    add("--area", type=float, help="reference area in m², for --forces")
    add("--length", type=float, default=1.0, help="reference length in m; 1")
    add_threads_option(parser)
    add("--density", type=float, help="in kg/m³, for a pressure in Pa")
    args = parser.parse_args(argv)
    if args.forces and (args.speed is None or args.area is None):
        parser.error("--forces needs --speed and --area")
    return args


def _load(args: argparse.Namespace) -> Surrogate:
    """Load the checkpoint, and check the options that depend on it."""
    if not 0 < args.scale < float("inf"):
        raise ValueError(f"--scale {args.scale}: give a finite factor above 0")
    surrogate = load_surrogate(args.checkpoint, device=args.device)
    if args.chunk is not None:
        if not hasattr(surrogate.model, "chunk_size"):
            raise ValueError("--chunk: this model cannot be computed in chunks")
        surrogate.model.chunk_size = args.chunk
    units = {field.name: field.unit for field in surrogate.fields}
    if args.forces and "pressure" not in units:
        raise ValueError(
            f"--forces needs a field 'pressure', but it has {', '.join(units)}"
        )
    if args.forces:
        in_pascal = units["pressure"] == "Pa"
        if in_pascal and args.density is None:
            raise ValueError("--forces: a pressure in Pa needs --density, in kg/m³")
        if args.density is not None and not in_pascal:
            raise ValueError("--density: this pressure is kinematic and takes none")
    return surrogate


def _find_jobs(path: Path, output: Path | None) -> Iterator[tuple[Path, Path]]:
    """Return each mesh with the file to write, without suffix where that follows."""
    if not path.is_dir():
        yield path, output or path.with_name(_stem(path))
        return
    kinds = mesh_io.MESH_SUFFIXES
    found = [each for each in sorted(path.iterdir()) if each.suffix.lower() in kinds]
    if not found:
        raise ValueError(f"{path} holds no meshes: {', '.join(kinds)}")
    folder = output or path.with_name(f"{path.name}_predicted")
    folder.mkdir(parents=True, exist_ok=True)
    for each in found:
        yield each, folder / _stem(each)


def _stem(path: Path) -> str:
    return f"{path.stem}_{path.suffix[1:].lower()}_predicted"


def _predict(
    args: argparse.Namespace, surrogate: Surrogate, path: Path, output: Path
) -> list[_Row]:
    """Read, predict and write one mesh; return rows for the table of forces."""
    mesh = mesh_io.read_mesh(path, block=args.block, time=args.time)
    suffix = ".vtp" if isinstance(mesh, pv.PolyData) else ".vtu"
    if output != args.output:
        output = output.with_name(output.name + suffix)
    if output.suffix.lower() not in (suffix, ".vtk"):  # others would drop the field
        raise ValueError(f"--output {output}: this mesh is written as {suffix} or .vtk")
    if output.exists() and output.samefile(path):
        raise ValueError(f"--output {output} is the mesh itself: choose another file")
    location = "cell" if args.cells else "point"
    constants = dict(_constant(text) for text in args.set)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        mesh = surrogate.predict_mesh(
            mesh, constants=constants, scale=args.scale, location=location
        )
    for warning in caught:
        print(f"warning: {path}: {warning.message}", file=sys.stderr)
    checkpoint = Path(*args.checkpoint.resolve().parts[-2:])
    note = str(mesh.field_data["provenance"][0])
    note = note.replace(", trained on", f" from checkpoint {checkpoint}, trained on", 1)
    mesh_io.add_notes(mesh, {"provenance": note})
    for field in surrogate.fields:
        values = mesh.get_array(field.name, preference=location)
        low, high = values.min(), values.max()
        print(f"{field} at {len(values):,} points: {low:g} to {high:g}")
    print(f"wrote {mesh_io.save_dataset(mesh, output)}")
    for field in surrogate.fields if args.png else ():
        picture = output.with_name(f"{output.stem}_{field.name}.png")
        plot_mesh(mesh, field, title=path.name, location=location).savefig(
            picture, dpi=150
        )
        print(f"wrote {picture}")
    for field in surrogate.fields if args.html else ():
        page = output.with_name(f"{output.stem}_{field.name}.html")
        text = mesh_page(mesh, field, title=note, location=location)
        page.write_text(text, encoding="utf-8")
        print(f"wrote {page}")
    return _forces(args, mesh, path, location) if args.forces else []


def _forces(
    args: argparse.Namespace, mesh: Any, path: Path, location: str
) -> list[_Row]:
    """Print the coefficients of a body, and return them as rows of the table."""
    flow = {"speed": args.speed, "reference_area": args.area, "scale": args.scale}
    flow |= {"reference_length": args.length, "density": args.density}
    if not mesh_io.is_surface(mesh):
        raise ValueError("--forces needs a surface: extract that of the body")
    if isinstance(mesh, pv.PolyData) and mesh.n_open_edges:
        print(f"warning: {path} is open: normals may point inward", file=sys.stderr)
    rows: list[_Row] = []
    for name, source in (("pressure", "predicted"), ("pressure_true", "truth")):
        if name in mesh.array_names:
            values = mesh.get_array(name, preference=location)
            gaps = len(values) - int(np.isfinite(values).sum())
            if gaps == len(values):
                continue
            with warnings.catch_warnings():
                # The prediction has said how many values are not finite.
                warnings.filterwarnings("ignore", ".*is not finite", UserWarning)
                found = mesh_forces(mesh, name, **flow, location=location)
            text = ", ".join(f"{key} {value:.4f}" for key, value in found.items())
            without = f", without {gaps} of {len(values)} values" if gaps else ""
            print(f"coefficients, {source}, without friction{without}: {text}")
            left_out = {"values_left_out": gaps} if gaps else {}
            rows.append({"mesh": str(path), "source": source, **found, **left_out})
    return rows


def _constant(text: str) -> tuple[str, list[float]]:
    """Read what `--set` was given."""
    name, _, values = text.partition("=")
    try:
        return name, [float(value) for value in values.split(",")]
    except ValueError:
        raise ValueError(f"--set {text}: give NAME=VALUE, or NAME=X,Y,Z") from None


def _report(error: Exception, path: Path | None = None) -> int:
    """Print one sentence, with the options of the command line; return the code."""
    named = "" if path is None or str(path) in str(error) else f"{path}: "
    text = f"error: {named}{error}"
    for option in ("scale", "block", "time"):
        text = text.replace(f"{option}=", f"--{option} ")
    print(text, file=sys.stderr)
    return 2
