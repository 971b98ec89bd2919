"""The command line for checking meshes, and its HTML page."""

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvista as pv

from torch_geometric_flare import mesh_io, training
from torch_geometric_flare._arguments import expand_path
from torch_geometric_flare.data_checks import (
    CheckReport,
    Finding,
    GivenForces,
    check_meshes,
    read_forces,
)
from torch_geometric_flare.datasets.mesh_files import find_meshes
from torch_geometric_flare.datasets.split_by_name import FRACTIONS, split_by_name
from torch_geometric_flare.experiments.options import Options, parse
from torch_geometric_flare.experiments.page import Section, render_page
from torch_geometric_flare.fields import read_fields
from torch_geometric_flare.visualization import FRONT_VIEW, REAR_VIEW
from torch_geometric_flare.visualization.mesh import mesh_triangles
from torch_geometric_flare.visualization.panels import Panel
from torch_geometric_flare.visualization.rendering import Picture, cut_margin, render

log = logging.getLogger(__name__)

_MOST_PICTURES = 8
_MARK = 0.006  # radius of a marker as a fraction of the diagonal


@dataclass(frozen=True, kw_only=True)
class CheckOptions(Options):
    """Options of the mesh checks.

    Args:
        fields: Arrays that each mesh must have, separated by commas; by default those
            that most meshes have.
        location: Location of these arrays, `cell` or `point`.
        fractions: Fractions of the training, validation and test split, as for
            `MeshFolder`. With several folders, each is a split.
        seed: Seed of the split, as for `MeshFolder`.
        html: HTML page to write, with pictures of the worst meshes.
        ignore: Checks to skip, separated by commas.
        forces: Table of reference coefficients with the columns mesh, drag and lift; by
            default those in the field data of the meshes.
        pressure: Array of the pressure for the forces.
        speed: Free-stream speed in m/s; if given, forces are compared.
        area: Reference area in m².
        density: Density in kg/m³, if the pressure is in Pa.
        shear: Array of the shear stress of the fluid on the surface; prefix `-` to
            negate it, as needed for wallShearStress of OpenFOAM.
        tolerance: Largest accepted difference of forces, relative to the larger one.
        block: Block or patch to read from the files.
        time: Time step to read from the files.
    """

    fields: str | None = None
    location: str = "cell"
    fractions: tuple[float, float, float] = FRACTIONS
    seed: int = 0
    html: str | None = None
    ignore: str | None = None
    forces: str | None = None
    pressure: str = "pressure"
    speed: float | None = None
    area: float | None = None
    density: float | None = None
    shear: str | None = None
    tolerance: float = 0.02
    block: str | None = None
    time: float | None = None

    def given_forces(self) -> GivenForces | None:
        """Return the forces to compare, if any."""
        if self.speed is None or self.area is None:
            if (self.forces, self.speed, self.area) != (None, None, None):
                raise ValueError("speed and area belong together, and forces need both")
            return None
        return GivenForces(
            pressure=self.pressure,
            speed=self.speed,
            reference_area=self.area,
            density=self.density,
            shear=self.shear or "",
            tolerance=self.tolerance,
            table=read_forces(expand_path(self.forces)) if self.forces else {},
        )


def check_command_line(arguments: Sequence[str], prog: str | None = None) -> int:
    """Check the meshes of folders, print a table, and optionally write an HTML page.

    Args:
        arguments: The command line.
        prog: Name of the command.

    Returns:
        The exit status: 0 without errors, 1 with errors. Warnings do not count.

    Raises:
        SystemExit: With status 2, after printing a user error as one line.
    """
    with training.user_errors():
        parser = CheckOptions.parser(
            "Check the meshes of a folder by themselves and against each other. Exit "
            "status: 0 without errors, 1 with errors, 2 if nothing could be checked.",
            prog=prog,
        )
        parser.add_argument(
            "folders", nargs="+", help="folder of meshes; of several each is a split"
        )
        values = parse(parser, arguments)
        folders = [expand_path(folder) for folder in values.pop("folders")]
        options = CheckOptions.from_options(values)
        part = {"block": options.block, "time": options.time}
        fields = read_fields(options.fields) if options.fields else ()
        mesh_io.check_location(options.location)
        report = check_meshes(
            _find_splits(folders, options),
            arrays=[(options.location, field.array) for field in fields],
            forces=options.given_forces(),
            ignore=[n.strip() for n in (options.ignore or "").split(",") if n.strip()],
            part=part,
        )
        log.info("%s", report)
        if options.html:
            title = f"Check of {', '.join(map(str, folders))}"
            page = check_page(report, title, part)
            expand_path(options.html).write_text(page, encoding="utf-8")
            log.info("page: %s", options.html)
    return report.exit_status


def _find_splits(
    folders: Sequence[Path], options: CheckOptions
) -> dict[str, list[Path]]:
    """Return the meshes of each split."""
    meshes_of = {
        folder: find_meshes(folder, mesh_io.MESH_SUFFIXES) for folder in folders
    }
    if len(meshes_of) > 1:
        names = [folder.name for folder in meshes_of]
        unique = len(set(names)) == len(names)
        return {
            folder.name if unique else str(folder): [folder / name for name in meshes]
            for folder, meshes in meshes_of.items()
        }
    ((folder, meshes),) = meshes_of.items()
    if len(meshes) < np.count_nonzero(options.fractions):
        return {"all": [folder / name for name in meshes]}
    splits = split_by_name(meshes, options.fractions, options.seed, {}).names
    return {s: [folder / name for name in names] for s, names in splits.items()}


def check_page(
    report: CheckReport, title: str, part: dict[str, Any] | None = None
) -> str:
    """Return the report as a page, with pictures of the worst meshes.

    The page is self-contained.

    Args:
        report: The report.
        title: Title of the page.
        part: Arguments `block` and `time` of `mesh_io.read_mesh`, for reading the worst
            meshes again.

    Returns:
        HTML, to be saved in UTF-8.
    """
    files = {
        name: path for split in report.splits.values() for name, path in split.items()
    }
    shown = [f for f in report.findings if f.mesh and len(f.places)][:_MOST_PICTURES]
    worst = {
        f"{finding.mesh}: {finding.what}, {finding.detail}": _picture(
            mesh_io.read_mesh(files[finding.mesh], **(part or {})), finding
        )
        for finding in shown
    }
    sections = [
        Section(paragraphs=[report.summary()]),
        Section(tables=[report.cells()]),
        Section(heading="Statistics", tables=[report.statistics_cells()]),
        *([Section(heading="The worst", pictures=worst)] if worst else []),
    ]
    return render_page(title, sections, align="left")


def _picture(mesh: Any, finding: Finding) -> bytes:
    """Render a mesh with markers at the places of a finding."""
    import matplotlib.image

    surface = mesh_triangles(mesh, "cell")
    surface.point_data["point"] = np.zeros(surface.n_points, int)
    ball = pv.Icosahedron(radius=_MARK * mesh.length)
    marks = pv.PolyData(finding.places).glyph(orient=False, scale=False, geom=ball)
    marks.clear_data()
    marks.point_data["point"] = np.ones(marks.n_points, int)
    both = surface.merge(marks, merge_points=False)
    flat = mesh.bounds[4] == mesh.bounds[5]
    values = np.array([0.0, 1.0], np.float32)
    panel = Panel("", "", values, (-0.15, 0.8), "Reds")
    pictures: list[Picture] = [
        cut_margin([render(both, panel, view)])[0]
        for view in (((0.0, 0.0, 1.0),) if flat else (FRONT_VIEW, REAR_VIEW))
    ]
    height = min(len(picture) for picture in pictures)
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, np.hstack([p[:height] for p in pictures]))
    return buffer.getvalue()
