"""Command line for predictions on mesh files."""

import argparse
import csv
import functools
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyvista as pv

from torch_geometric_flare import mesh_io
from torch_geometric_flare._arguments import OneLineParser, expand_path
from torch_geometric_flare.datasets.mesh_files import find_meshes
from torch_geometric_flare.experiments.field_files import write_fields
from torch_geometric_flare.experiments.mesh_forces import force_rows, mean_forces
from torch_geometric_flare.experiments.quantities import (
    ForceRow,
    describe_errors,
    force_errors,
)
from torch_geometric_flare.fields import Fields, read_fields
from torch_geometric_flare.surrogates import (
    QuerySurrogate,
    Surrogate,
    load_surrogate,
)
from torch_geometric_flare.surrogates.predict_around import find_site
from torch_geometric_flare.training import add_threads_option, show_log

log = logging.getLogger(__name__)

_FLOW = (1.0, 0.0, 0.0)


@show_log()
def predict_command_line(
    description: str, argv: Sequence[str] | None = None, prog: str | None = None
) -> int:
    """Predict fields on the meshes named on a command line.

    Args:
        description: Description that `--help` prints.
        argv: The arguments; by default those of the process.
        prog: Name of the command; by default that of the script.

    Returns:
        The exit code: 2 if a mesh, the checkpoint or an option could not be used, with
            one line on stderr for each.
    """
    args = _parse(description, argv, prog)
    failed = 0
    rows: list[ForceRow] = []
    trained: dict[str, float] = {}
    table = Path("forces.csv")
    try:
        surrogate = _load(args)
        location = _location(args, surrogate)
        if args.train_meshes:
            paths = _meshes_in(args.train_meshes)
            trained = mean_forces(args, surrogate, paths, location)
        for path, output in _find_jobs(args.mesh, args.output):
            table = output.with_name(table.name)
            try:
                rows += _predict(args, surrogate, path, output)
            except (OSError, ValueError) as error:
                failed = _report(error, path)
    except (OSError, ValueError) as error:
        failed = _report(error)
    if rows:
        _write(table, rows)
    errors = force_errors(rows, trained)
    for row in errors[:2]:  # drag and lift
        meshes = "1 mesh" if row["meshes"] == 1 else f"{row['meshes']} meshes"
        name = f"{row['coefficient']} of {meshes} with a truth"
        log.info(describe_errors(name, row))
    if errors and not trained:
        log.info("--train-meshes FOLDER adds the error of predicting the training mean")
    if errors:
        _write(table.with_name("force_errors.csv"), errors)
    return failed


def _parse(
    description: str, argv: Sequence[str] | None, prog: str | None
) -> argparse.Namespace:
    parser = OneLineParser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("checkpoint", type=expand_path, help="checkpoint of a training")
    kinds = ", ".join((*mesh_io.MESH_SUFFIXES, *mesh_io.FURTHER_SUFFIXES))
    what = f"a mesh ({kinds}), or a folder of the first six kinds"
    add("mesh", type=expand_path, help=what)
    add("--block", metavar="NAME", help="one of several blocks or patches of the file")
    add("--time", type=float, help="one of several time steps of the file")
    places = "slice:y=0", "box:X0,X1,Y0,Y1,Z0,Z1[:SPACING]", "points.csv", "mesh.vtu"
    what = f"predict there, by a checkpoint with query points: {', '.join(places)}"
    add("--at", metavar="PLACE", type=_argument(mesh_io.QuerySite.parse), help=what)
    what = "file or folder to write; by default beside it"
    add("--output", type=expand_path, help=what)
    where = parser.add_mutually_exclusive_group()
    for location in ("cell", "point"):
        where.add_argument(
            f"--{location}s",
            dest="location",
            action="store_const",
            const=location,
            help=f"predict at the {location}s; by default where it was trained",
        )
    what = "arrays of the mesh that fields and inputs are read from"
    add(
        "--fields",
        metavar="NAME=ARRAY[,NAME=ARRAY]",
        type=_argument(read_fields),
        help=what,
    )
    add("--scale", type=float, default=1.0, help="training units in one of the mesh")
    what = "a condition, or an input that is the same everywhere, as speed=40"
    add("--set", action="append", default=[], metavar="NAME=VALUE[,VALUE]", help=what)
    what = "count points by their areas, or alike; by default as it was trained"
    add("--weight", choices=("area", "none"), help=what)
    what = "what to do with a mesh that is not like the training samples"
    add("--guard", choices=("warn", "error", "off"), default="warn", help=what)
    add("--chunk", type=int, metavar="POINTS", help="predict so many at a time")
    add("--device", default="cpu", help="where to predict: cpu, cuda")
    add("--png", action="store_true", help="draw each field beside the mesh written")
    add("--html", action="store_true", help="write each field as a page to turn")
    add("--forces", action="store_true", help="print and write force coefficients")
    add(
        "--train-meshes",
        type=expand_path,
        metavar="FOLDER",
        help="meshes of the training with their fields: their mean forces are the "
        "baseline of --forces",
    )
    add("--speed", type=float, help="of the free stream in m/s, for --forces")
    add("--area", type=float, help="reference area in m², for --forces")
    add("--length", type=float, default=1.0, help="reference length in m; 1")
    add("--moments-about", metavar="X,Y,Z", default="0,0,0", help="point in m; 0,0,0")
    add_threads_option(parser)
    add("--density", type=float, help="in kg/m³, for a pressure in Pa")
    args = parser.parse_args(argv)
    if args.forces and (args.speed is None or args.area is None):
        parser.error("--forces needs --speed and --area")
    if args.forces and args.at is not None:
        parser.error("--at predicts around the mesh, --forces on it: give one of them")
    if args.train_meshes is not None and not args.forces:
        parser.error("--train-meshes is the baseline of --forces: give that too")
    return args


def _load(args: argparse.Namespace) -> Surrogate:
    """Load the checkpoint and check the options that depend on it."""
    if not 0 < args.scale < float("inf"):
        raise ValueError(f"--scale {args.scale}: give a finite factor above 0")
    surrogate = load_surrogate(args.checkpoint, device=args.device)
    if args.at is not None and not isinstance(surrogate, QuerySurrogate):
        raise ValueError(
            f"--at {args.at.text}: {args.checkpoint} holds "
            f"{type(surrogate.model).__name__}, which predicts on the mesh alone: give "
            "a checkpoint with query points, such as of FLAREQuery"
        )
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
    """Return each mesh with its output file, without suffix if added later."""
    if not path.is_dir():
        yield path, output or path.with_name(_stem(path))
        return
    meshes = _meshes_in(path)
    folder = output or path.with_name(f"{path.name}_predicted")
    folder.mkdir(parents=True, exist_ok=True)
    for each in meshes:
        yield each, folder / _stem(each)


def _meshes_in(folder: Path) -> list[Path]:
    return [folder / name for name in find_meshes(folder, mesh_io.MESH_SUFFIXES)]


def _stem(path: Path, what: str = "predicted") -> str:
    return f"{path.stem}_{path.suffix[1:].lower()}_{what}"


def _predict(
    args: argparse.Namespace, surrogate: Surrogate, path: Path, output: Path
) -> list[ForceRow]:
    """Read, predict and write one mesh; return rows for the force table."""
    mesh = mesh_io.read_mesh(path, block=args.block, time=args.time)
    all_inputs = of_mesh = surrogate.features + surrogate.conditions
    if isinstance(surrogate, QuerySurrogate):
        all_inputs += surrogate.query.features
    constants = dict(_constant(text, all_inputs) for text in args.set)
    mesh_io.add_case(mesh, path, of_mesh, constants)
    options = {
        "constants": constants,
        "scale": args.scale,
        "location": args.location,
        "arrays": args.fields or (),
        "weight": args.weight,
        "guard": args.guard,
    }
    location, fields, site = _location(args, surrogate), surrogate.fields, None
    predict, title = surrogate.predict_mesh, path.name
    if isinstance(surrogate, QuerySurrogate) and args.at is not None:
        location, fields = "point", surrogate.query.fields
        site = find_site(surrogate, args.at, args.scale)
        predict = functools.partial(surrogate.predict_around, at=site)
        title = f"{path.name}, {args.at.text}"
        if output != args.output:
            output = output.with_name(_stem(path, args.at.name))
    output = _output_file(args, mesh if site is None else site, output, path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            mesh = predict(mesh, **options)
        finally:  # a warning may tell the reason of an error
            for warning in caught:
                log.warning(f"{path}: {warning.message}")
    checkpoint = Path(*args.checkpoint.resolve().parts[-2:])
    note = str(mesh.field_data["provenance"][0])
    note = note.replace(", trained on", f" from checkpoint {checkpoint}, trained on", 1)
    mesh_io.add_notes(mesh, {"provenance": note})
    write_fields(
        mesh,
        fields,
        output,
        title=title,
        location=location,
        flow=_FLOW if args.forces else None,
        png=args.png,
        html=args.html,
    )
    return force_rows(args, surrogate, mesh, path, location) if args.forces else []


def _output_file(args: argparse.Namespace, mesh: Any, output: Path, path: Path) -> Path:
    """Return the output file, with the suffix for this type of mesh."""
    kinds = {pv.PolyData: ".vtp", pv.ImageData: ".vti"}
    suffix = kinds.get(type(mesh), ".vtu")
    if output != args.output:
        output = output.with_name(output.name + suffix)
    # Other formats would drop the fields.
    if output.suffix.lower() not in (suffix, ".vtk"):
        raise ValueError(f"--output {output}: this mesh is written as {suffix} or .vtk")
    inputs = [path] if args.at is None else [path, expand_path(args.at.text)]
    if output.exists() and any(p.exists() and output.samefile(p) for p in inputs):
        raise ValueError(f"--output {output} is the mesh itself: choose another file")
    return output


def _location(args: argparse.Namespace, surrogate: Surrogate) -> str:
    """Return the location of fields: from the command line, or as in training."""
    return args.location or surrogate.location or "point"


def _write(table: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with table.open("w", newline="", encoding="utf-8") as file:
        names = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(file, list(names), restval=0)
        writer.writeheader()
        writer.writerows(rows)
    log.info(f"wrote {table}")


def _constant(text: str, known: Fields) -> tuple[str, list[float]]:
    """Parse `--set`: numbers, optionally followed by a space and their unit."""
    name, _, values = text.partition("=")
    numbers, _, unit = values.strip().rpartition(" ")
    try:
        float(unit.split(",")[-1])  # only numbers
        numbers = values
    except ValueError:
        expected = {field.name: field.unit for field in known}.get(name, unit)
        if numbers and unit != expected:
            raise ValueError(
                f"--set {text}: {unit!r} is not the unit of the training, which is "
                f"{expected or 'none'!r} for {name}"
            ) from None
    try:
        return name, [float(value) for value in numbers.split(",")]
    except ValueError:
        raise ValueError(
            f"--set {text}: give NAME=VALUE, NAME=X,Y,Z, or either with a space and "
            "the unit behind it"
        ) from None


def _argument(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a parser for argparse, which shows the message of its own error alone."""

    def parse_argument(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse_argument


def _report(error: Exception, path: Path | None = None) -> int:
    """Print an error in terms of command-line options; return the exit code."""
    named = "" if path is None or str(path) in str(error) else f"{path}: "
    text = f"{named}{error}"
    for option in ("scale", "block", "time"):
        text = text.replace(f"{option}=", f"--{option} ")
    log.error(text)
    return 2
