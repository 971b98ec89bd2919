"""Force coefficients of predicted bodies for the command line."""

import argparse
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyvista as pv

from torch_geometric_flare import mesh_io
from torch_geometric_flare.experiments.quantities import ForceRow
from torch_geometric_flare.metrics import mesh_forces
from torch_geometric_flare.surrogates import Surrogate

log = logging.getLogger(__name__)


def force_rows(
    args: argparse.Namespace,
    surrogate: Surrogate,
    mesh: Any,
    path: Path,
    location: str,
) -> list[ForceRow]:
    """Log the coefficients of a body, and return them as rows of the table."""
    if not mesh_io.is_surface(mesh):
        raise ValueError("--forces needs a surface: extract that of the body")
    if isinstance(mesh, pv.PolyData) and mesh.n_open_edges:
        log.warning(f"{path} is open: normals may point inward")
    rows: list[ForceRow] = []
    for name, source in (("pressure", "predicted"), ("pressure_true", "truth")):
        if name in mesh.array_names:
            values = mesh.get_array(name, preference=location)
            gaps = len(values) - int(np.isfinite(values).sum())
            if gaps == len(values):
                continue
            with warnings.catch_warnings():
                # The prediction has already reported the number of non-finite values.
                warnings.filterwarnings("ignore", ".*not finite", UserWarning)
                coefficients = mesh_forces(mesh, name, **_flow(args), location=location)
            text = ", ".join(
                f"{key} {value:.4f}" for key, value in coefficients.items()
            )
            without = f", without {gaps} of {len(values)} values" if gaps else ""
            log.info(f"coefficients, {source}, without friction{without}: {text}")
            omitted = {"values_left_out": gaps} if gaps else {}
            rows.append(
                {"mesh": str(path), "source": source, **coefficients, **omitted}
            )
    calibration = surrogate.calibration
    if rows and calibration is not None:
        for name, width in calibration.quantities.items():
            log.info(
                f"{name}: ± {width:.4f} with probability {calibration.level:.0%}, by "
                "the reference values of the training"
            )
    return rows


def mean_forces(
    args: argparse.Namespace,
    surrogate: Surrogate,
    paths: Sequence[Path],
    location: str,
) -> dict[str, float]:
    """Return the mean true coefficients of the training meshes, without gaps."""
    fields = (*surrogate.fields, *(args.fields or ()))
    source = {field.name: field.array for field in fields}["pressure"]
    coefficients = []
    for path in paths:
        mesh = mesh_io.read_mesh(path, block=args.block, time=args.time)
        name = source if source in mesh.array_names else "pressure"
        if name in mesh.array_names:
            values = mesh.get_array(name, preference=location)
            if not np.isfinite(values).all():
                log.warning(f"{path}: {name} has gaps: left out of the baseline")
                continue
        coefficients.append(mesh_forces(mesh, name, **_flow(args), location=location))
    if not coefficients:
        return {}
    return {
        name: sum(one[name] for one in coefficients) / len(coefficients)
        for name in coefficients[0]
    }


def _flow(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `mesh_forces` given on the command line."""
    return {
        "speed": args.speed,
        "reference_area": args.area,
        "reference_length": args.length,
        "density": args.density,
        "scale": args.scale,
        "reference_point": _point(args.moments_about),
    }


def _point(text: str) -> list[float]:
    """Parse the value of `--moments-about`."""
    try:
        x, y, z = (float(value) for value in text.split(","))
    except ValueError:
        raise ValueError(f"--moments-about {text}: give X,Y,Z in meters") from None
    return [x, y, z]
